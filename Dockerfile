# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /build
# The dependencies alone first: this layer holds until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src
COPY src src
# Cargo goes by the time of a file, and these may be older than the stand-ins were.
RUN find src -type f -exec touch {} + \
 && cargo build --release --locked

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="o365-relay" \
      org.opencontainers.image.description="Mail relay daemon: plain SMTP on localhost in, STARTTLS and XOAUTH2 to Office 365 out" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/o365-relay
# The build image has Mozilla's roots; this one comes without.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/o365-relay /usr/bin/o365-relay
# A sidecar shares the network of its pod, so loopback is where the application is, and nobody else.
# Not port 25: a user that is not root cannot have it everywhere. /metrics and probes over HTTP from
# outside the pod want O365_RELAY__HTTP__ADDRESS=0.0.0.0:9587; a probe by command does not.
# A file with several `[[listener]]` names its own addresses, and this one has no effect.
ENV O365_RELAY__LISTENER__ADDRESSES=127.0.0.1:2525
USER 65532:65532
# The queue: accepted mail is lost with it. Mount something that outlives the container.
VOLUME /var/lib/o365-relay
# The daemon then has its grace period (20 s); stop it with a longer timeout than Docker's 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/usr/bin/o365-relay", "health"]
ENTRYPOINT ["/usr/bin/o365-relay"]
CMD ["run"]
