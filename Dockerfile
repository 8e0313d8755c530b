# Image of the program for the CPU, with the page. docs/verdicts.md says how to build and run it.

FROM python:3.11-slim-bookworm AS build
# Extras of setup.cfg, separated by commas.
ARG EXTRAS=page
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /source
# PyTorch has its own layer, because it is the largest download and changes least often.
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu torch
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY data_cards data_cards
COPY pipeline pipeline
COPY train train
COPY eval eval
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
# Any user may run the image (`docker run --user`), so the home is a folder that everybody can write to.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp
USER 1000
WORKDIR /data
# The first process of a container ignores SIGTERM by default. SIGINT, as at Ctrl-C, ends a command cleanly.
STOPSIGNAL SIGINT
CMD ["predict", "--help"]
