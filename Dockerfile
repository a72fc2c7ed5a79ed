# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
# The client of Kafka is C: this image has the gcc and make that build it, a slim one has not.
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/smartlink /smartlink

FROM debian:bookworm-slim
RUN useradd --system --no-create-home smartlink
COPY --from=build /smartlink /usr/local/bin/smartlink
USER smartlink
EXPOSE 9001
# The admin port stays on loopback inside the container; this asks it.
ENTRYPOINT ["smartlink"]
CMD ["serve"]
