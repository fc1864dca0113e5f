#!/bin/sh
# date of an emulated instance, whose wall clock is ahead of this machine's by what /run/guest/ahead says.
ahead=$(cat /run/guest/ahead 2>/dev/null || echo 0)
exec /bin/date -d "@$(($(/bin/date +%s) + ahead))" "$@"
