"""A GPU for PTX: runs kernels' committed assembly on the CPU, with every access checked."""
