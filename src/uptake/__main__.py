"""The command `uptake`, and `python -m uptake`."""

import signal


def main() -> None:
    """Run the command line; until it listens to signals itself, an interrupt ends the process as it would any other."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from uptake.cli import main as command_line  # noqa: PLC0415 - takes a while, and nothing is lost by then

    command_line()


if __name__ == "__main__":
    main()
