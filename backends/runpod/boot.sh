# The first thing that runs in a pod, as its process 1. end_pod, from end_pod.sh, stands before this text.
# GPUJOB_ENDS_AT (UTC, seconds since 1970) and GPUJOB_MAX_SECONDS say when the pod has to be over, whoever is asleep.
export HOME="${HOME:-/root}"
say() { echo "gpujob: $*" >&2; }
uptime_seconds() { cut -d. -f1 /proc/uptime; }

# Process 1 hears no signal it has no handler for, not even KILL: without this nothing could end the container.
trap 'say "told to end"; exit 0' TERM INT

spare=10   # seconds before the end in which RunPod has to hear of it and end the pod: they are paid for as well

over() {   # whatever the wall clock is set to, no longer than GPUJOB_MAX_SECONDS; and not past the end it shows
    [ -e /var/tmp/gpujob-over ] || [ "$(date +%s)" -ge $((GPUJOB_ENDS_AT - spare)) ] ||
        [ $(($(uptime_seconds) - began)) -ge $((GPUJOB_MAX_SECONDS - spare)) ]
}

end_for_good() {   # a container that ends is started again by RunPod, so the pod itself has to be ended first
    say "this pod's time is over"
    while :; do
        end_pod
        kill -TERM $$   # this script: it is process 1, or the only child of a small init that then ends as well
        sleep 15
    done
}

began=$(uptime_seconds)
over && end_for_good
(trap - TERM INT; until over; do sleep 2; done; end_for_good) &

# sshd

sshd_runs() { grep -qx sshd /proc/[0-9]*/comm 2>/dev/null; }

install_sshd() {
    if command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            openssh-server ca-certificates curl python3 python3-venv >/dev/null
    elif command -v apk >/dev/null; then
        apk add --quiet --no-cache openssh ca-certificates curl python3
    elif command -v dnf >/dev/null; then
        dnf install --quiet --assumeyes openssh-server ca-certificates curl python3 >/dev/null
    fi
}

start_sshd() {
    [ -x /usr/sbin/sshd ] || { say "this image has no sshd; installing it"; install_sshd; }
    [ -x /usr/sbin/sshd ] || return 1
    mkdir -p ~/.ssh /run/sshd && chmod 700 ~/.ssh
    grep -qxF "$PUBLIC_KEY" ~/.ssh/authorized_keys 2>/dev/null || echo "$PUBLIC_KEY" >>~/.ssh/authorized_keys
    chmod 600 ~/.ssh/authorized_keys
    ssh-keygen -A >/dev/null
    [ -e /etc/rp_environment ] || (umask 077; export -p >/etc/rp_environment)
    /usr/sbin/sshd
}

if [ -x /start.sh ]; then   # RunPod's own images: it starts sshd, and more; nothing else may stand in its way
    if [ -x /opt/nvidia/nvidia_entrypoint.sh ]; then /opt/nvidia/nvidia_entrypoint.sh /start.sh & else /start.sh & fi
    waited=0
    until sshd_runs || over || [ $waited -ge 60 ]; do sleep 1; waited=$((waited + 1)); done
fi
if ! sshd_runs && ! start_sshd && ! sshd_runs; then
    say "no sshd is in this image and none could be installed: nothing could reach this pod"
    end_for_good
fi
say "ready"
until over; do   # a job may kill everything here that it can, guard and sshd too; process 1 it cannot
    sshd_runs || start_sshd
    sleep 15 &
    wait $!
done
end_for_good
