"""What arms do: functions of options and a place, on which all results depend."""
