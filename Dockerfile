# Build: docker build -t r2-credential-bot .
# Run:   docker run --env-file .env --read-only --volume r2-credential:/data r2-credential-bot
# Needs Docker 25 or Podman 5.1, for the health check's --start-interval.

# The digest makes an update a commit. What the tag has now: docker buildx imagetools inspect python:3.13-slim
ARG PYTHON_IMAGE=python:3.13-slim@sha256:70729b46c69b4f1e97c4822c1af3df53a1476cf5ddc6c087c0c10bc3a5678c2f

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/bot
COPY requirements.lock ./
RUN /opt/bot/bin/pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: --require-hashes \
    --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY bot ./bot
RUN /opt/bot/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/bot/bin/pip uninstall --quiet --yes flit_core pip \
    && /opt/bot/bin/python -m compileall -q /opt/bot/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="R2 credential bot" \
      org.opencontainers.image.description="Stores the credential of a Cloudflare R2 Data Catalog safely, from Slack" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0"
# Without pip, an intruder cannot install with it, and scanners have nothing to report about it.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin bot \
    && install --directory --owner bot --group bot --mode 0700 /data \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip*
COPY --from=build /opt/bot /opt/bot
COPY deploy/healthcheck /opt/bot/bin/
ENV PATH=/opt/bot/bin:$PATH \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONMALLOC=malloc \
    GLIBC_TUNABLES=glibc.malloc.perturb=165:glibc.malloc.tcache_count=0 \
    R2_CREDENTIAL_DATA_DIR=/data \
    R2_CREDENTIAL_HTTP_HOST=0.0.0.0 \
    R2_CREDENTIAL_METRICS_HOST=0.0.0.0 \
    R2_CREDENTIAL_METRICS_PORT=9090
WORKDIR /data
USER 10001
VOLUME /data
EXPOSE 3000 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s CMD ["bash", "/opt/bot/bin/healthcheck"]
ENTRYPOINT ["r2-credential-bot"]
CMD ["run"]
