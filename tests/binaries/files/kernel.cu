// What the libraries beside this file are made of: one kernel, and a function that starts it.
__global__ void twice(float *values) { values[threadIdx.x] *= 2; }
extern "C" void run(float *values) { twice<<<1, 32>>>(values); }
