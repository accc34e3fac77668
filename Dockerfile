# The command sleepfm-index with the extras for figures, the page and PhysioNet's formats; CPU only.
#   docker build -t sleepfm-index .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" sleepfm-index build nights/ --store store
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" -p 127.0.0.1:8707:8707 sleepfm-index \
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
# Any user may run it, so that what is written to /data is theirs; caches go to this home.
RUN useradd --create-home sleeper && chmod 777 /home/sleeper
ENV HOME=/home/sleeper USER=sleeper
USER sleeper
WORKDIR /data
ENTRYPOINT ["sleepfm-index"]
CMD ["--help"]
