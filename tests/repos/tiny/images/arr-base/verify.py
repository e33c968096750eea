if [ -e /config/arr-base.txt ]; then echo "ok   the configuration is there"; else echo "FAIL no configuration"; exit 1; fi
