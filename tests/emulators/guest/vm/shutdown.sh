#!/bin/sh
# shutdown(8) and poweroff(8) as far as a rented machine uses them: now, or in so many minutes.
power_off() { touch /run/powered-off; kill -TERM 1; }
case "$(basename "$0") $*" in
    "poweroff "* | *" now"*) power_off ;;
    *" +"[0-9]*)
        minutes=$(echo "$*" | sed 's/.*+\([0-9]*\).*/\1/')
        (sleep $((minutes * 60)); power_off) </dev/null >/dev/null 2>&1 &
        ;;
    *) echo "shutdown: $* is not understood" >&2; exit 1 ;;
esac
