# sh, in fact: see the Dockerfile.
if grep -q -i hello /greeting; then echo "ok   the greeting is there"; else echo "FAIL no greeting"; exit 1; fi
if [ "$(id -u)" = 10001 ]; then echo "ok   not root"; else echo "FAIL root"; exit 1; fi
