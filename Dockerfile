# Build: docker build -t r2-credential-bot .
# Run:   docker run --env-file .env --read-only --volume r2-credential:/data r2-credential-bot
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/bot
COPY requirements.lock ./
RUN /opt/bot/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY bot ./bot
RUN /opt/bot/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/bot/bin/python -m compileall -q /opt/bot/lib

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin bot \
    && install --directory --owner bot --group bot --mode 0700 /data
COPY --from=build /opt/bot /opt/bot
ENV PATH=/opt/bot/bin:$PATH \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    R2_CREDENTIAL_DATA_DIR=/data \
    R2_CREDENTIAL_HTTP_HOST=0.0.0.0
WORKDIR /data
USER 10001
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["r2-credential-bot", "health"]
ENTRYPOINT ["r2-credential-bot"]
CMD ["run"]
