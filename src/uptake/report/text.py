"""Numbers as text: three digits that matter, a true minus sign, units a person reads."""

MINUS = "\N{MINUS SIGN}"
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
RANGE = "\N{EN DASH}"


def number(value: float) -> str:
    """About three digits: `number(0.7142)` is "0.71", `number(12345)` is "12,345"."""
    size = abs(value)
    if size >= 1000 or isinstance(value, int):
        text = f"{value:,.0f}"
    elif size >= 100:
        text = f"{value:.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 0.0095 or size == 0:
        text = f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", MINUS)


def tick(value: float) -> str:
    """A round number as it is: `tick(0.25)` is "0.25", `tick(5.0)` is "5"."""
    return f"{value:,.6g}".replace("-", MINUS)


def percent_tick(share: float) -> str:
    """A round share as percent: `percent_tick(0.25)` is "25%"."""
    return f"{100 * share:.6g}%"


def score(value: float) -> str:
    """A number with two decimals, for columns: `score(-0.004)` is "0.00"."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Two decimals with the sign: `signed(0.3)` is "+0.30"."""
    return ("+" if value > 0 else "") + score(value)


def percent(share: float) -> str:
    """A share as percent: `percent(0.7142)` is "71.4%"."""
    return f"{100 * share:.1f}%"


def percent_range(low: float, high: float) -> str:
    """An interval of shares: `percent_range(0.649, 0.773)` is "64.9-77.3%", with an en dash."""
    return f"{percent(low).removesuffix('%')}{RANGE}{percent(high)}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `duration(75)` is "1 min 15 s", with narrow spaces before the units."""
    if seconds < 60:
        return f"{number(seconds)}{NARROW_SPACE}s" if seconds < 10 else f"{seconds:.0f}{NARROW_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW_SPACE}min {rest}{NARROW_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW_SPACE}h {minutes}{NARROW_SPACE}min"


def words(key: str) -> str:
    """Words of a key: `words("follow_up_likelihood")` is "follow-up likelihood"."""
    return key.replace("follow_up", "follow-up").replace("_", " ")
