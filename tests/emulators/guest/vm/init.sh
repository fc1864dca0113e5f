#!/bin/sh
# Process 1 of an emulated virtual machine: sshd from the start, as in cloud images, then what was given as user data.
trap 'exit 0' TERM INT
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key # one is enough, and an RSA key takes long to find
/usr/sbin/sshd
[ -e /run/guest/user-data ] && sh /run/guest/user-data &
until [ -e /run/powered-off ]; do
    sleep 1 &
    wait $!
done
