FROM debian:trixie-slim
ARG PYTHON
COPY packages.txt etc/ /opt/base/
RUN echo "python ${PYTHON}" >/opt/base/python
