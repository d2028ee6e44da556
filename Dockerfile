# The same steps a developer runs, so that they are tested without this file.
FROM debian:12 AS build
COPY . /weir
WORKDIR /weir
RUN tools/deps build && tools/build release weir

FROM debian:12-slim
COPY --from=build /weir/tools/deps /usr/local/lib/weir/deps
RUN /usr/local/lib/weir/deps run && rm -rf /var/lib/apt/lists/*
COPY --from=build /weir/build/release/weir /usr/local/bin/weir
WORKDIR /project
ENTRYPOINT ["weir"]
CMD ["--help"]
