# danlu's server and worker in one image: `make image`, or `docker compose up`.
# docs/guide/deploy.md says how to run it.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-trixie AS build
ARG UV=0.13.9
# TORCH=cpu takes PyTorch's builds without CUDA: smaller, from PyTorch's own index, so that the
# versions of requirements.lock hold, and its hashes do not.
ARG TORCH=
# Address of a package index of one's own. It may be read in the cache of the builder, so no
# password belongs here.
ARG INDEX=
ENV UV_LINK_MODE=copy
RUN --mount=type=cache,target=/root/.cache \
    python -m pip install --quiet --root-user-action ignore --disable-pip-version-check \
      ${INDEX:+--index-url "$INDEX"} "uv==$UV" \
    && python -m venv --without-pip /opt/danlu
WORKDIR /build
# Gigabytes that change seldom, in a layer of their own. pyproject.toml says what is needed, without
# the tools of developers; every version and hash is the lock's.
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/root/.cache \
    if [ "$TORCH" = cpu ]; then set -- --torch-backend cpu --no-verify-hashes; \
    else set -- --require-hashes; fi; \
    uv pip install --python /opt/danlu/bin/python --compile-bytecode \
      ${INDEX:+--default-index "$INDEX"} "$@" --constraints requirements.lock -r pyproject.toml
COPY . .
RUN --mount=type=cache,target=/root/.cache \
    uv pip install --python /opt/danlu/bin/python --compile-bytecode \
      ${INDEX:+--default-index "$INDEX"} --no-deps --build-constraints requirements.lock .

FROM python:${PYTHON}-slim-trixie
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="danlu" \
      org.opencontainers.image.description="Trains image classifiers and serves their predictions over HTTP" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The number is fixed: volumes outlive images. No name of a user is needed, so `--user` works too.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 danlu \
    && useradd --uid 10001 --gid 10001 --home-dir /data/.home --no-create-home \
         --shell /usr/sbin/nologin danlu \
    && install -d -o danlu -g danlu /data
COPY --from=build /opt/danlu /opt/danlu
# With a root that may only be read, /data and /tmp are all that is written to: HOME is where
# PyTorch, Triton, CUDA and Matplotlib keep their caches, but for the one that is named.
ENV PATH=/opt/danlu/bin:$PATH \
    DANLU_HOME=/data \
    DANLU_HOST=0.0.0.0 \
    HOME=/data/.home \
    TORCHINDUCTOR_CACHE_DIR=/data/.home/.cache/torchinductor
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The server's alone: for `danlu worker` switch it off.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('DANLU_PORT') or 8000), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
# tini reaps what a killed training process leaves behind, and hands signals on.
ENTRYPOINT ["tini", "--"]
# Or: danlu serve --no-worker, danlu worker, danlu doctor …
CMD ["danlu", "serve"]
