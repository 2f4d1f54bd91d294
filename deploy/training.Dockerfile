# Training, evaluation and export. Build from the root of the repository:
#   docker build -f deploy/training.Dockerfile -t ferserve-training:dev .      (TF=cpu)
#   docker build -f deploy/training.Dockerfile -t ferserve-training:dev-gpu --build-arg TF=gpu .
# Data is not in it: mount the archive or folder at /data, a folder for runs at /runs, a model repository at /models.

# Any image with Python 3.11 and venv; deploy/image_test.sh gives a plain Debian 12.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
# cpu or gpu: which TensorFlow. The GPU wheels bring their own CUDA libraries, so the base stays the same.
ARG TF=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1
WORKDIR /src
RUN python3 -m venv /opt/ferserve
# The lock comes before the sources: a change of code does not download TensorFlow again.
COPY requirements/training-${TF}.lock requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/ferserve/bin/pip install --require-hashes -r requirements/training-${TF}.lock
COPY proto proto
COPY vision vision
COPY training training
RUN /opt/ferserve/bin/pip install --no-deps --no-build-isolation ./proto ./vision ./training \
    # Not needed at run time: TensorFlow's C++ headers (287 MB), libclang (61 MB) and pip itself.
    && rm -rf /opt/ferserve/lib/python3.11/site-packages/tensorflow/include \
        /opt/ferserve/lib/python3.11/site-packages/clang \
    && /opt/ferserve/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="ferserve-training" \
      org.opencontainers.image.description="Training, evaluation and export of the models that ferserve serves" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN groupadd --gid 10001 ferserve \
    && useradd --uid 10001 --gid ferserve --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ferserve \
    && install -d -o ferserve -g ferserve /runs /models
COPY --from=builder /opt/ferserve /opt/ferserve
# Matplotlib and Keras keep caches under HOME; the rest of the file system may be read-only.
ENV PATH=/opt/ferserve/bin:$PATH \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /runs
USER 10001:10001
STOPSIGNAL SIGTERM
# A run ends by itself; nothing listens, so there is no health to check.
HEALTHCHECK NONE
ENTRYPOINT ["ferserve-train"]
