# The inference server. Build from the root of the repository:
#   docker build -f deploy/server.Dockerfile -t ferserve-server:dev .          (TF=cpu)
#   docker build -f deploy/server.Dockerfile -t ferserve-server:dev-gpu --build-arg TF=gpu .
# Models are not in it: mount a model repository at /models.

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
COPY requirements/server-${TF}.lock requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/ferserve/bin/pip install --require-hashes -r requirements/server-${TF}.lock
COPY proto proto
COPY vision vision
COPY server server
RUN /opt/ferserve/bin/pip install --no-deps --no-build-isolation ./proto ./vision ./server \
    # Not needed at run time: TensorFlow's C++ headers (287 MB), libclang (61 MB) and pip itself.
    && rm -rf /opt/ferserve/lib/python3.11/site-packages/tensorflow/include \
        /opt/ferserve/lib/python3.11/site-packages/clang \
    && /opt/ferserve/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="ferserve-server" \
      org.opencontainers.image.description="gRPC server that classifies facial expressions" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN groupadd --gid 10001 ferserve \
    && useradd --uid 10001 --gid ferserve --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ferserve \
    && install -d -o ferserve -g ferserve /models
COPY --from=builder /opt/ferserve /opt/ferserve
# MALLOC_ARENA_MAX: glibc allows 8 memory pools a core, and on large machines each keeps memory that nobody uses. Two cost
# nothing measurable (2 cores, one process for all: 691 MiB after load with two, 693 MiB without, the same throughput).
ENV PATH=/opt/ferserve/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    FERSERVE_MODEL_REPO=/models \
    FERSERVE_LISTEN=0.0.0.0:50051 \
    FERSERVE_HTTP_LISTEN=0.0.0.0:8080 \
    FERSERVE_METRICS_LISTEN=0.0.0.0:9464 \
    FERSERVE_LOG_FORMAT=json
WORKDIR /tmp
USER 10001:10001
EXPOSE 50051 8080 9464
# TERM starts the drain: health turns to NOT_SERVING, what was taken is answered, then it exits with 0.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "ferserve_server.app.healthcheck"]
ENTRYPOINT ["ferserve-server"]
