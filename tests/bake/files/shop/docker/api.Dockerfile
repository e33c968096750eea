# syntax is the engine's own
FROM tools AS build
ARG BUILD
COPY src/ /src/
RUN cat /src/*.txt >/built && echo "${BUILD}" >>/built

FROM base
COPY --from=build /built /opt/api
COPY --from=tools /etc/debian_version /opt/debian
