#!/bin/bash
# What RunPod's own images start: sshd if there is a key to log in with, the environment in a file, then nothing.
set -e

if [[ $PUBLIC_KEY ]]; then
    mkdir -p ~/.ssh
    echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys
    chmod 700 -R ~/.ssh
    if [ ! -f /etc/ssh/ssh_host_ed25519_key ]; then
        ssh-keygen -t ed25519 -f /etc/ssh/ssh_host_ed25519_key -q -N ''
        ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    fi
    /usr/sbin/sshd
fi

printenv | grep -E '^[A-Z_][A-Z0-9_]*=' | grep -v '^PUBLIC_KEY' |
    awk '{ name = $0; sub(/=.*/, "", name); value = $0; sub(/^[^=]*=/, "", value); print "export " name "=\"" value "\"" }' \
    > /etc/rp_environment
echo 'source /etc/rp_environment' >> ~/.bashrc

echo "Start script(s) finished, Pod is ready to use."
sleep infinity
