# The command sleepfm-index with the extras for figures, the page and PhysioNet's formats; CPU only.
#   docker build -t sleepfm-index .
#   docker run --rm -v "$PWD:/data" sleepfm-index build nights/ --store store
#   docker run --rm -v "$PWD:/data" -p 8707:8707 sleepfm-index \
#       explore --store store --host 0.0.0.0 --port 8707 --token "$TOKEN"
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN python -m pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:3.12-slim
COPY --from=wheel /wheels /wheels
COPY constraints.txt /tmp/constraints.txt
# torch for CPUs from its own index: PyPI's brings gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --extra-index-url "$TORCH_INDEX" "torch==2.13.0" \
    && python -m pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --extra-index-url "$TORCH_INDEX" "$(echo /wheels/*.whl)[eval,explore,wfdb]" \
    && rm -r /wheels /tmp/constraints.txt
RUN useradd --create-home sleeper
USER sleeper
WORKDIR /data
ENTRYPOINT ["sleepfm-index"]
CMD ["--help"]
