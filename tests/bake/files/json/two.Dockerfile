FROM one
COPY --from=files /x /x
