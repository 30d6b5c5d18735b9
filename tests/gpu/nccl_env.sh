#!/bin/sh
# Several ranks on one GPU, for tests: NCCL refuses two ranks of one host on one device, so each rank is a host of its own
# to it (NCCL_HOSTID), and they meet over sockets on the loopback interface. Slow, and nothing of NVLink is tested; the
# transfers are NCCL's own all the same.
#
#   mpirun -np 4 sh tests/gpu/nccl_env.sh build/tests/gpu/nccl_gpu_4_test      # runs a program as one such rank
#   . tests/gpu/nccl_env.sh; nccl_env 3                                        # or sets the environment of rank 3

# nccl_env RANK
nccl_env() {
  export NCCL_HOSTID="rank$1"
  export NCCL_NET=Socket NCCL_IB_DISABLE=1 NCCL_SOCKET_IFNAME=lo
  export NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 NCCL_MNNVL_ENABLE=0 NCCL_NVLS_ENABLE=0 NCCL_NET_GDR_LEVEL=LOC
  export NCCL_RAS_ENABLE=0 NCCL_MAX_CTAS=2 NCCL_BUFFSIZE=1048576
  export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
  # The ranks take turns on the GPU: a kernel of one must not hold it while a transfer of another waits for its peer.
  export JEVONS_SHARED_GPU=1
}

case "$0" in
  *nccl_env.sh)
    if [ $# -eq 0 ]; then
      echo "usage: mpirun -np N sh $0 PROGRAM [ARGUMENTS]" >&2
      exit 2
    fi
    rank="${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${SLURM_PROCID:-}}}"
    if [ -z "$rank" ]; then
      echo "$0: no rank in OMPI_COMM_WORLD_RANK, PMIX_RANK or SLURM_PROCID; start with mpirun" >&2
      exit 2
    fi
    nccl_env "$rank"
    exec "$@"
    ;;
esac
