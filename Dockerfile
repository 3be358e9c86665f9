# The environment that stages run in: the pinned lock on a CUDA base (or any other with glibc), as a plain user.
#   docker build --build-arg BASE_IMAGE=debian:bookworm -t tunesmith .        CPU only
#   docker run --rm --gpus all -v "$PWD:/work" -w /work --user "$(id -u):$(id -g)" tunesmith dvc repro
ARG BASE_IMAGE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

FROM ${BASE_IMAGE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN pip install --no-cache-dir "$(sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml)" \
 && pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock
COPY README.md ./
COPY tunesmith tunesmith
RUN pip install --no-cache-dir --no-deps .

FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends bubblewrap git python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 tunesmith
COPY --from=build /opt/venv /opt/venv
# Any user may run it, one without an entry in /etc/passwd too: caches go to /tmp, and DVC is told a name.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp LOGNAME=tunesmith PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
USER 10001
WORKDIR /work
CMD ["dvc", "repro"]
