# The image holds one static binary and an empty /data, and nothing else.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# With --target, so that the flags reach our binary and not the build scripts. The second flag: a static binary cannot look up
# the C library's getrandom and would read /dev/urandom; this way it asks the kernel and needs no /dev.
RUN target=$(rustc --print host-tuple) \
 && export RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
 && cargo build --release --locked --target "$target" \
 && install -D "target/$target/release/latchkey" /image/latchkey \
 && install -d -m 0700 /image/data

FROM scratch
COPY --from=build /image/latchkey /latchkey
# A named volume takes its owner from here.
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
VOLUME /data
# The C library's allocator otherwise keeps up to twice of what is in use, for a few per cent more requests a second.
ENV LATCHKEY_DATA_DIR=/data \
    LATCHKEY_LISTEN=0.0.0.0:5282 \
    MALLOC_ARENA_MAX=2
EXPOSE 5282
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["/latchkey", "health"]
ENTRYPOINT ["/latchkey"]
