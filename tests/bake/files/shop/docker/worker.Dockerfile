ARG BUILD=debug
FROM base AS runtime
ARG BUILD
COPY ["src/worker.txt", "/opt/worker"]
RUN echo "${BUILD}" >>/opt/worker

FROM runtime AS tests
RUN false
