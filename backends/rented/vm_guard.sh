# Ends this machine when its time is over, and tells the runs on it when its provider will take it back.
# The values before this text say when that is. `notice`, where it is defined there, succeeds once the provider has said
# that it takes the machine back.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
state=/var/lib/gpujob
read -r first began <$state/began
read -r boot </proc/sys/kernel/random/boot_id
[ "$first" = "$boot" ] || began=0   # it was started anew: its monotonic clock as well

over() {   # whatever the wall clock is set to, no longer than GPUJOB_MAX_SECONDS; and not past the end it shows
    read -r uptime _ </proc/uptime
    [ "$(date +%s)" -ge $((GPUJOB_ENDS_AT - GPUJOB_SPARE)) ] ||
        [ $((${uptime%.*} - began)) -ge $((GPUJOB_MAX_SECONDS - GPUJOB_SPARE)) ]
}

end_runs() {   # as the runner wants to be asked: what they have kept by then is fetched while the machine still lasts
    for job in "$GPUJOB_PLACE"/*/job.json; do
        folder=${job%/job.json}
        [ -d "$folder" ] || continue
        echo '{"reason": "preempted"}' >"$folder/.stop.request" && mv "$folder/.stop.request" "$folder/stop.request"
    done
}

told=
until over; do
    if [ -z "$told" ] && command -v notice >/dev/null && notice; then
        told=yes
        end_runs
    fi
    sleep 2
done
while :; do   # what hangs while it is shut down must not hold the machine
    shutdown -P now
    sleep 30
    poweroff -f
    sleep 15
done
