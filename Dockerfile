# One image for machines with and without an NVIDIA GPU:
#   docker build -t seedproof:cpu .
#   docker build -t seedproof:nvidia --build-arg CONSTRAINTS=constraints-gpu.txt --build-arg EXTRA=xformers .
# A package index that has CPU builds of torch makes the first one several gigabytes smaller:
# --build-arg TORCH_INDEX=URL

FROM python:3.12-slim-bookworm AS installed
ARG CONSTRAINTS=constraints.txt
ARG EXTRA=""
ARG TORCH_INDEX=""
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.txt constraints.txt constraints-gpu.txt ./
RUN python -m venv /opt/venv
# From that index torch alone: what it needs comes from the usual one.
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' "$CONSTRAINTS")"; \
    fi
RUN pip install -c "$CONSTRAINTS" -r requirements.txt ${EXTRA:+"$EXTRA"}

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin seedproof \
    && install --directory --owner=seedproof --group=seedproof /data
COPY --from=installed /opt/venv /opt/venv
WORKDIR /app
COPY core core
COPY audit audit
COPY webapp webapp
COPY data data
# Locks of the devices lie in the cache folder: containers that share a GPU share this volume.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/data/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=3m \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "webapp"]
CMD ["serve", "--host", "0.0.0.0", "--db", "/data/seedproof.db", "--journal"]
