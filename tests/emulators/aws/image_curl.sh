#!/bin/sh
# curl of an emulated instance, as far as it asks for the instance's metadata (IMDSv2); what that says lies in /run/guest.
case "$*" in
    *169.254.169.254*api/token*)
        case "$*" in *"-X PUT"*) echo token-of-this-instance ;; *) exit 22 ;; esac
        ;;
    *169.254.169.254*spot/instance-action*)
        case "$*" in *"X-aws-ec2-metadata-token: token-of-this-instance"*) cat /run/guest/spot-action 2>/dev/null || exit 22 ;; *) exit 22 ;; esac
        ;;
    *) exit 7 ;;
esac
