extern "C" int cpus(); extern "C" int answer() { return 41 + cpus(); }
