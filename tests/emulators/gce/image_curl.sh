#!/bin/sh
# curl of an emulated instance, as far as it asks for the instance's metadata; what that says lies in /run/guest.
case "$*" in
    *"Metadata-Flavor: Google"*metadata.google.internal/computeMetadata/v1/instance/preempted*)
        cat /run/guest/preempted 2>/dev/null || echo FALSE
        ;;
    *) exit 7 ;;
esac
