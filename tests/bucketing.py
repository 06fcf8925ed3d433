"""An S3 on loopback, and what is in it."""

import os
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

from muster_coordinator.durable import unseal
from muster_coordinator.records import RoundCommit

BUCKET = "federation"


class Store:
    """One bucket. `environment` is what a process needs to reach it."""

    def __init__(self, address):
        self.environment = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        credentials = {"aws_access_key_id": "somebody", "aws_secret_access_key": "something"}
        self._client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **credentials)
        self._client.create_bucket(Bucket=BUCKET)

    def url(self, folder):
        return f"s3://{BUCKET}/{folder}"

    def names(self, folder):
        found = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        return sorted(each["Key"].removeprefix(f"{folder}/") for page in found for each in page.get("Contents", ()))

    def read(self, folder, name):
        return self._client.get_object(Bucket=BUCKET, Key=f"{folder}/{name}")["Body"].read()

    def write(self, folder, name, content):
        self._client.put_object(Bucket=BUCKET, Key=f"{folder}/{name}", Body=content)

    def commits_of(self, folder, number):
        return unseal(self.read(folder, f"rounds/{number:06d}.json"), RoundCommit)

    def commits(self, folder):
        names = [name for name in self.names(folder) if name.startswith("rounds/") and name.endswith(".json")]
        return [unseal(self.read(folder, name), RoundCommit) for name in names]


@contextmanager
def s3():
    """A server for as long as the block lasts; this process reaches it too."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = Store(f"http://{host}:{port}")
    before = {name: os.environ.get(name) for name in store.environment}
    os.environ.update(store.environment)
    try:
        yield store
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
