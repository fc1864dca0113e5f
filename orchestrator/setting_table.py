"""Every setting of ours: what it is for, its default, how it is read and shown."""

from __future__ import annotations

from backends.settings import Setting, shown_size_or_none, shown_yes_or_no, size_or_none, yes_or_no
from backends.units import decimal_usd, format_duration, format_size, parse_duration, parse_size, parse_usd
from orchestrator import setting_words as words

SETTINGS: dict[str, Setting] = {
    "local.price_per_hour": Setting(
        "what an hour of this machine costs you in USD, beside its electricity", "0", parse_usd, decimal_usd
    ),
    "local.watts": Setting("what this machine draws while it works, in watts", "0", words.count),
    "local.price_per_kwh": Setting("what a kilowatt-hour costs you in USD, such as 0.30", "0", parse_usd, decimal_usd),
    "local.slots": Setting("CPU jobs that may run at once on this machine; 0 means one per CPU", "0", words.count),
    "runpod.client": Setting(
        "how pods are rented: rest (REST v2), or sdk (RunPod's own package)", "rest", words.one_of("rest", "sdk")
    ),
    "runpod.cloud": Setting(
        "whose hosts: secure (RunPod's), community (anybody's), or all",
        "all",
        words.one_of("all", "secure", "community"),
    ),
    "runpod.spot": Setting(
        "whether spot pods may be rented, which RunPod can take back at any moment", "no", yes_or_no, shown_yes_or_no
    ),
    "runpod.data_centers": Setting(
        "only in these data centres, such as EU-RO-1,US-TX-3; or any", "any", words.names, words.shown_names
    ),
    "runpod.min_cuda": Setting(
        "the least CUDA version of a host's driver; default: what the image's name says",
        "default",
        words.default_or(words.version),
        words.or_default,
    ),
    "runpod.min_ram_per_gpu": Setting(
        "the least RAM of a host per GPU, such as 60 GB; more is offered, less is rarely free",
        "0",
        parse_size,
        format_size,
    ),
    "runpod.image": Setting(
        "the image of GPU pods whose spec names none; default: RunPod's PyTorch image",
        "default",
        words.default_or(words.image),
        words.or_default,
    ),
    "runpod.cpu_image": Setting(
        "the image of CPU pods whose spec names none; default: RunPod's base image",
        "default",
        words.default_or(words.image),
        words.or_default,
    ),
    "runpod.disk": Setting("the disk of every pod, unless its job needs more", "30 GB", parse_size, format_size),
    "runpod.list_lag": Setting(
        "how long a pod whose reply was lost may be missing from RunPod's list", "90s", parse_duration, format_duration
    ),
    "runpod.api": Setting(
        "the address of RunPod's API; RUNPOD_API_BASE_URL goes before it",
        "default",
        words.default_or(words.api),
        words.or_default,
    ),
    "colab.plan": Setting(
        "what you have: free, pro (you pay for Colab Pro), or payg (you have bought compute units)",
        "free",
        words.one_of("free", "pro", "payg"),
    ),
    "colab.road": Setting(
        "how runtimes are had: notebook (you open it), command (Google's command line `colab`), or auto",
        "auto",
        words.one_of("auto", "notebook", "command"),
    ),
    "colab.command": Setting("how Google's command line is called, such as `colab --auth=adc`", "colab", str, str),
    "colab.uses": Setting(
        "how many jobs a month would share a subscription to Colab Pro that you do not have yet", "1", words.one_or_more
    ),
    "colab.weekly_hours": Setting("hours of free GPU runtimes that Google gives you in a week", "15", words.count),
    "colab.wait": Setting(
        "how long it takes you to open the notebook, as plans count it", "10m", parse_duration, format_duration
    ),
    "colab.patience": Setting(
        "how long a job waits for a Colab session before the next offer is tried", "1h", parse_duration, format_duration
    ),
    "colab.poll": Setting("how often Google Drive is asked what is new", "2s", parse_duration, format_duration),
    "colab.api": Setting(
        "another address of Google Drive's API", "default", words.default_or(words.api), words.or_default
    ),
    "aws.regions": Setting(
        "regions to rent in, such as us-east-1,us-west-2; each is asked in turn",
        "us-east-1",
        words.regions_in("backends.aws.tables"),
        words.shown_names,
    ),
    "aws.profile": Setting(
        "a profile of ~/.aws/config; default: whatever AWS's own tools would take",
        "default",
        words.default_or(words.profile),
        words.or_default,
    ),
    "aws.spot": Setting(
        "whether spot instances may be rented, which AWS takes back with two minutes' notice",
        "no",
        yes_or_no,
        shown_yes_or_no,
    ),
    "aws.disk": Setting("the disk of every instance, unless its job needs more", "100 GB", parse_size, format_size),
    "aws.ami": Setting(
        "the image to start from: ami-... or the name of an SSM parameter; default: the newest Deep Learning Base AMI",
        "default",
        words.default_or(words.ami),
        words.or_default,
    ),
    "aws.ssh_from": Setting(
        "the network SSH is admitted from, such as 203.0.113.7/32; default: this machine's address as Amazon sees it",
        "default",
        words.default_or(words.network),
        words.or_default,
    ),
    "aws.ssh_port": Setting("the port on which the image's sshd listens", "22", words.one_or_more),
    "aws.stage_from": Setting(
        "the size from which an upload's large files go by S3, for later attempts to have them from there; or none",
        "1 GB",
        size_or_none,
        shown_size_or_none,
    ),
    "aws.list_lag": Setting(
        "how long an instance whose reply was lost may be missing from AWS's list",
        "60s",
        parse_duration,
        format_duration,
    ),
    "gce.project": Setting(
        "the project to rent in; default: that of the credentials",
        "default",
        words.default_or(words.cloud_name),
        words.or_default,
    ),
    "gce.credentials": Setting(
        "a service account's file; default: whatever Google's own tools would take",
        "default",
        words.default_or(str),
        words.or_default,
    ),
    "gce.regions": Setting(
        "regions to rent in, such as us-central1; each has its own offers",
        "us-central1",
        words.regions_in("backends.gce.tables"),
        words.shown_names,
    ),
    "gce.spot": Setting(
        "whether spot instances may be rented, which Google takes back with half a minute's notice",
        "no",
        yes_or_no,
        shown_yes_or_no,
    ),
    "gce.disk": Setting("the disk of every instance, unless its job needs more", "100 GB", parse_size, format_size),
    "gce.image": Setting(
        "the image family to start from, as project/family; default: the Deep Learning VM with CUDA",
        "default",
        words.default_or(words.image_family),
        words.or_default,
    ),
    "gce.network": Setting(
        "the network of the project that instances are put in",
        "default",
        words.default_or(words.cloud_name),
        words.or_default,
    ),
    "gce.ssh_from": Setting(
        "the network SSH is admitted from, such as 203.0.113.7/32; default: this machine's address on the internet",
        "default",
        words.default_or(words.network),
        words.or_default,
    ),
    "gce.ssh_port": Setting("the port on which the image's sshd listens", "22", words.one_or_more),
    "gce.list_lag": Setting(
        "how long a request whose reply was lost may be on its way to Google", "150s", parse_duration, format_duration
    ),
    "gce.api": Setting(
        "another address of the Compute Engine API", "default", words.default_or(words.api), words.or_default
    ),
    "attempt.start_deadline": Setting(
        "how long a rented machine may take until it can be reached; then it is given back",
        "15m",
        parse_duration,
        format_duration,
    ),
    "attempt.linger": Setting(
        "how long results wait on a rented machine that nobody comes back to, before it ends itself",
        "30m",
        parse_duration,
        format_duration,
    ),
    "attempt.keep_every": Setting(
        "how often checkpoints come home while a rented machine runs", "5m", parse_duration, format_duration
    ),
    "attempt.avoid": Setting(
        "how long an offer is left alone after a machine of it was paid for and never became usable",
        "6h",
        parse_duration,
        format_duration,
    ),
    "catalog.url": Setting(
        "where `gpujob catalog refresh` fetches the price table: an https address, or none",
        "none",
        words.address,
        words.or_none,
    ),
    "plan.hour": Setting(
        "what an hour of waiting is worth to you in USD; auto: as the priority says", "auto", words.weight, words.shown
    ),
    "plan.failure": Setting(
        "what a failed attempt annoys you in USD; auto: as the priority says", "auto", words.weight, words.shown
    ),
    "plan.quality": Setting(
        "what losing all quality would cost you in USD; auto: as the priority says", "auto", words.weight, words.shown
    ),
    "plan.target": Setting(
        "chance of success to aim at within the budget; auto: as the priority says", "auto", words.chance, words.shown
    ),
    "worker.threads": Setting("jobs that one worker looks after at once", "48", words.one_or_more),
    "worker.idle": Setting("how long a background worker waits for more work", "60s", parse_duration, format_duration),
}
