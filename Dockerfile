# syntax=docker/dockerfile:1
# docs/containers.md tells how to build and run it; tests/container/run does both.

# What the binary runs on: the C library, and neither shell nor package manager. Another base of the
# same Debian will do, to look around in: --build-arg BASE=debian:bookworm-slim
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM rust:1.95-bookworm AS build
ARG PROFILE=release
WORKDIR /build
# The dependencies alone first: this layer holds until Cargo.toml, Cargo.lock or .cargo changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --profile "$PROFILE" --locked \
 && rm -r src
COPY build.rs ./
COPY link link
COPY src src
# Cargo goes by the time of a file, and these may be older than the stand-ins were.
RUN find src -type f -exec touch {} + \
 && cargo build --profile "$PROFILE" --locked
# What goes into the image, with its modes. Nothing runs there while it is built: there is no shell.
RUN install -D -m 0755 -t /out/bin target/*/o365-relay \
 && install -D -m 0644 -t /out/certs /etc/ssl/certs/ca-certificates.crt \
 && install -d -m 0700 /out/lib/o365-relay

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="o365-relay" \
      org.opencontainers.image.description="Mail relay daemon: plain SMTP on localhost in, STARTTLS and XOAUTH2 to Office 365 out" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Mozilla's roots come along: not every base has them, and they are those of the day of the build.
COPY --from=build /out/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/bin/o365-relay /usr/bin/o365-relay
# A volume that is mounted here for the first time takes owner and mode from this directory.
COPY --from=build --chown=65532:65532 /out/lib/ /var/lib/
# A sidecar shares the network of its pod, so loopback is where the application is, and nobody else.
# Not port 25: a user that is not root cannot have it everywhere. For other containers, /metrics and
# HTTP probes see docs/containers.md.
# A file with several `[[listener]]` names its own addresses, and this one has no effect.
ENV O365_RELAY__LISTENER__ADDRESSES=127.0.0.1:2525
USER 65532:65532
EXPOSE 2525/tcp 9587/tcp
# The queue. Give it a name (-v o365-relay-queue:/var/lib/o365-relay): the relay does not start with
# the volume that an engine makes for this container alone, nor on the container's own layer.
VOLUME /var/lib/o365-relay
# The daemon then has its grace period (20 s); stop it with a longer timeout than Docker's 10 s.
STOPSIGNAL SIGTERM
# That the process answers. Whether mail can go out is another question: /readyz, /metrics.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/bin/o365-relay", "health"]
ENTRYPOINT ["/usr/bin/o365-relay"]
CMD ["run"]
