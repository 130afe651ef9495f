"""What arms do: functions of options and a trial, on which all results depend."""
