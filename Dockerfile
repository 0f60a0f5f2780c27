# pkt in a container. For a CPU: docker build -t pkt .
# For an NVIDIA GPU: docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t pkt:cuda . and docker run --gpus all …
# docker run --rm -v "$PWD:/work" -v pkt-cache:/cache --user "$(id -u)" pkt run demo demo
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
# The wheels of the CPU are 200 MB instead of 3 GB. PyPI's hold CUDA, whose driver the host has.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/pkt
WORKDIR /src
COPY constraints.txt ./
RUN /opt/pkt/bin/pip install --no-cache-dir --constraint constraints.txt \
        --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY toolkit toolkit
COPY dataset_cards dataset_cards
COPY model_cards model_cards
ARG EXTRAS=app,encoder,export
RUN /opt/pkt/bin/pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="PokePicker Toolkit" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/pkt /opt/pkt
# Any user may write here, as those of --user do.
RUN useradd --create-home --uid 1000 pkt && install -d -o pkt -m 1777 /work /cache
ENV PATH=/opt/pkt/bin:$PATH HF_HOME=/cache/huggingface PKT_CACHE=/cache/pkt MPLCONFIGDIR=/cache/matplotlib HOME=/cache \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["pkt"]
CMD ["--help"]
