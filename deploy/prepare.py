"""Prepare MLflow's start: migrate its database and its accounts, create the bucket and the account for serving.

Another run changes only that account's password. Since it migrates, back up the database and then the artifacts to a
place outside the project before an upgrade of MLflow:

    docker compose exec -T postgres pg_dump -U mlflow -Fc mlflow > ../mlflow.dump
    docker compose exec -T store tar -C /data -c . > ../artifacts.tar
"""

import os
import subprocess
import sys

import boto3
from botocore.exceptions import ClientError
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

DATABASE, BUCKET, ACCOUNT = "postgresql+psycopg2:///mlflow", "mlflow", "serving"


def migrate() -> None:
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", DATABASE], check=True)
    subprocess.run([sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", DATABASE], check=True)


def make_bucket() -> None:
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    try:
        store.head_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        store.create_bucket(Bucket=BUCKET)


def make_account(password: str) -> None:
    accounts = SqlAlchemyStore()
    accounts.init_db(DATABASE)
    if accounts.has_user(ACCOUNT):
        accounts.update_user(ACCOUNT, password)
    else:
        accounts.create_user(ACCOUNT, password)


if __name__ == "__main__":
    migrate()
    make_bucket()
    make_account(os.environ["SERVING_PASSWORD"])
