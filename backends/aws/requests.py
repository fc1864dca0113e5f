"""What is asked of AWS, as values: the service, the operation and its parameters. Pure: nothing here asks anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from backends.units import MICROS_PER_USD

PRICING_REGION = "us-east-1"
"""Where the Price List answers for all regions."""

AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
"""The newest Deep Learning Base AMI with NVIDIA's driver, on Ubuntu (AWS Deep Learning AMIs release notes, 2026-10)."""

SSH_PORT = 22
EC2, SSM, STS, PRICING, QUOTAS = "ec2", "ssm", "sts", "pricing", "service-quotas"

QUOTA_CODES = {
    ("G", False): "L-DB2E81BA",
    ("P", False): "L-417A185B",
    ("G", True): "L-3819A6DF",
    ("P", True): "L-7212CCBC",
}
"""Service Quotas' codes of "Running On-Demand G and VT instances", "... P instances", and of their spot requests."""
P5_SPOT_QUOTA = "L-C4BD4855"


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. ``doing`` is said in errors; ``rents``: a lost reply may have been the word that a machine was made."""

    service: str
    operation: str
    region: str
    doing: str
    params: Mapping[str, Any] = field(default_factory=dict)
    rents: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """The instance to ask for. ``max_micros`` is what an hour of a spot instance may cost; None means on demand."""

    token: str
    type: str
    ami: str
    root_device: str
    disk_gb: int
    region: str
    zone: str
    subnet: str
    group: str
    user_data: str
    tags: Mapping[str, str]
    max_micros: int | None = None


def token_of(word: str, key: str, zone: str) -> str:
    """The ClientToken of a home's request for ``key`` in one zone: the same whoever asks again. 64 ASCII characters.

    A token belongs to one set of parameters, and its scope is the zone: so each zone has its own.
    """
    return hashlib.sha256(f"{word}/{key}/{zone}".encode()).hexdigest()


def run_instance(wish: Wish) -> Ask:
    """Rent one instance: what it must be told at its birth is all here."""
    tags = [{"Key": key, "Value": value} for key, value in wish.tags.items()]
    params: dict[str, Any] = {
        "ClientToken": wish.token,
        "ImageId": wish.ami,
        "InstanceType": wish.type,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": wish.user_data,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [
            {
                "DeviceName": wish.root_device,
                "Ebs": {"VolumeSize": wish.disk_gb, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": wish.subnet,
                "Groups": [wish.group],
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
    }
    if wish.max_micros is not None:
        price = format(Decimal(wish.max_micros) / MICROS_PER_USD, "f")
        spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate", "MaxPrice": price}
        params["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
    return Ask(EC2, "run_instances", wish.region, f"renting a {wish.type} in {wish.zone}", params, rents=True)


def list_instances(region: str, tag: str, value: str, page: str = "") -> Ask:
    """The instances with a tag, those lately terminated among them."""
    params: dict[str, Any] = {"Filters": [_filter(f"tag:{tag}", value)], "MaxResults": 1000}
    return Ask(EC2, "describe_instances", region, f"listing instances in {region}", _paged(params, page))


def get_instance(region: str, id_: str) -> Ask:
    """One instance by its id."""
    return Ask(EC2, "describe_instances", region, f"looking at instance {id_}", {"InstanceIds": [id_]})


def terminate(region: str, id_: str) -> Ask:
    """Terminate an instance for good; doing it twice is harmless."""
    return Ask(EC2, "terminate_instances", region, f"terminating instance {id_}", {"InstanceIds": [id_]})


def list_volumes(region: str, tag: str, value: str) -> Ask:
    """The volumes with a tag that are attached to nothing."""
    filters = [_filter(f"tag:{tag}", value), _filter("status", "available")]
    return Ask(EC2, "describe_volumes", region, f"listing volumes in {region}", {"Filters": filters})


def delete_volume(region: str, id_: str) -> Ask:
    """Delete a volume."""
    return Ask(EC2, "delete_volume", region, f"deleting volume {id_}", {"VolumeId": id_})


def default_subnets(region: str) -> Ask:
    """The subnets of the default VPC: one a zone."""
    filters = [_filter("default-for-az", "true"), _filter("state", "available")]
    return Ask(EC2, "describe_subnets", region, f"reading the subnets of {region}", {"Filters": filters})


def zones_of(region: str, type_: str) -> Ask:
    """The zones that have an instance type at all."""
    params = {"LocationType": "availability-zone", "Filters": [_filter("instance-type", type_)]}
    return Ask(EC2, "describe_instance_type_offerings", region, f"asking which zones of {region} have {type_}", params)


def get_image(region: str, ami: str) -> Ask:
    """What an AMI is."""
    return Ask(EC2, "describe_images", region, f"looking at the image {ami}", {"ImageIds": [ami]})


def ami_parameter(region: str, name: str) -> Ask:
    """The AMI that a public parameter names."""
    return Ask(SSM, "get_parameter", region, f"asking {region} for its newest Deep Learning AMI", {"Name": name})


def list_groups(region: str, tag: str, value: str) -> Ask:
    """The security groups with a tag."""
    params = {"Filters": [_filter(f"tag:{tag}", value)]}
    return Ask(EC2, "describe_security_groups", region, f"listing security groups in {region}", params)


def create_group(region: str, vpc: str, name: str, tags: Mapping[str, str]) -> Ask:
    """A security group that admits nobody yet."""
    specification = {
        "ResourceType": "security-group",
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    params = {
        "GroupName": name,
        "Description": "SSH to instances that gpujob has rented",
        "VpcId": vpc,
        "TagSpecifications": [specification],
    }
    return Ask(EC2, "create_security_group", region, f"making a security group in {region}", params)


def admit(region: str, group: str, networks: Sequence[str], port: int) -> Ask:
    """Let the group admit SSH from ``networks`` as well."""
    params = {"GroupId": group, "IpPermissions": [_ssh_from(networks, port)]}
    return Ask(EC2, "authorize_security_group_ingress", region, f"opening SSH to {', '.join(networks)}", params)


def shut_out(region: str, group: str, networks: Sequence[str], port: int) -> Ask:
    """Let the group no longer admit SSH from ``networks``."""
    params = {"GroupId": group, "IpPermissions": [_ssh_from(networks, port)]}
    return Ask(EC2, "revoke_security_group_ingress", region, f"closing SSH to {', '.join(networks)}", params)


def delete_group(region: str, group: str) -> Ask:
    """Delete a security group; refused while anything uses it."""
    return Ask(EC2, "delete_security_group", region, f"deleting the security group {group}", {"GroupId": group})


def who_am_i(region: str) -> Ask:
    """Whose the credentials are: needs no right at all."""
    return Ask(STS, "get_caller_identity", region, "asking AWS who we are")


def on_demand_prices(region: str, page: str = "") -> Ask:
    """The Price List's GPU instances of one region: Linux, nothing pre-installed, shared hosts."""
    wanted = {
        "regionCode": region,
        "instanceFamily": "GPU instance",
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    params: dict[str, Any] = {"ServiceCode": "AmazonEC2", "Filters": filters, "MaxResults": 100}
    return Ask(PRICING, "get_products", PRICING_REGION, f"reading AWS's price list of {region}", _paged(params, page))


def spot_prices(region: str, types: Sequence[str], now: str, page: str = "") -> Ask:
    """What spot instances cost now, by type and zone."""
    params: dict[str, Any] = {
        "InstanceTypes": list(types), "ProductDescriptions": ["Linux/UNIX"], "StartTime": now, "MaxResults": 1000,
    }  # fmt: skip
    doing = f"reading spot prices of {region}"
    return Ask(EC2, "describe_spot_price_history", region, doing, _paged(params, page))


def quota(region: str, code: str) -> Ask:
    """How many vCPUs the account may run of a family."""
    params = {"ServiceCode": "ec2", "QuotaCode": code}
    return Ask(QUOTAS, "get_service_quota", region, f"reading the vCPU quotas of {region}", params)


def quota_code(type_: str, *, spot: bool) -> str:
    """The quota that an instance type counts against; empty for a family that none is known of."""
    if spot and type_.startswith("p5"):
        return P5_SPOT_QUOTA
    return QUOTA_CODES.get((type_[0].upper(), spot), "")


def quota_link(region: str, code: str) -> str:
    """Where more of a quota is asked for."""
    page = f"https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
    return f"{page}/{code}" if code else page


def _ssh_from(networks: Sequence[str], port: int) -> dict[str, Any]:
    wide = [network for network in networks if ":" in network]
    narrow = [network for network in networks if ":" not in network]
    permission: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    if narrow:
        permission["IpRanges"] = [{"CidrIp": network} for network in narrow]
    if wide:
        permission["Ipv6Ranges"] = [{"CidrIpv6": network} for network in wide]
    return permission


def _filter(name: str, *values: str) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


def _paged(params: dict[str, Any], page: str) -> dict[str, Any]:
    return {**params, "NextToken": page} if page else params
