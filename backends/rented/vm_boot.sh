# The first thing that runs in a rented virtual machine, as root. The values before this text say whose it is and when
# it has to be over; guard_text prints the guard. A power-off from inside is the machine's end: its provider was told so.
# It may run again at every boot; nothing in it minds.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "gpujob: $*" >&2; }
state=/var/lib/gpujob

# the deadline, before anything that could fail or take long

umask 077
mkdir -p $state
shutdown -P "+$(((GPUJOB_MAX_SECONDS + 59) / 60))" "gpujob: the reservation of this machine is used up" 2>/dev/null ||
    say "this system cannot plan its power-off; the guard alone ends it"
read -r boot </proc/sys/kernel/random/boot_id
read -r uptime _ </proc/uptime
[ -e $state/began ] || echo "$boot ${uptime%.*}" >$state/began
guard_text >$state/guard.sh
if [ -d /run/systemd/system ]; then   # a service is started again, whoever kills it
    cat >/etc/systemd/system/gpujob-guard.service <<UNIT
[Unit]
Description=Ends this machine when its reservation is used up
[Service]
ExecStart=/bin/sh $state/guard.sh
Restart=always
RestartSec=1
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --now gpujob-guard.service
else
    setsid sh $state/guard.sh </dev/null >/dev/null 2>&1 &
fi

# our key for root, and an sshd that lets root in by a key

mkdir -p /root/.ssh
grep -qxF "$GPUJOB_PUBLIC_KEY" /root/.ssh/authorized_keys 2>/dev/null ||
    echo "$GPUJOB_PUBLIC_KEY" >>/root/.ssh/authorized_keys
if [ -d /etc/ssh/sshd_config.d ]; then   # the first word on an option counts, so it has to be read first
    echo "PermitRootLogin prohibit-password" >/etc/ssh/sshd_config.d/00-gpujob.conf
    chmod 644 /etc/ssh/sshd_config.d/00-gpujob.conf
    systemctl reload ssh 2>/dev/null || systemctl reload sshd 2>/dev/null
fi
mkdir -p "$GPUJOB_PLACE"
say "ready"
