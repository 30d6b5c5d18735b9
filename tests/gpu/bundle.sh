#!/usr/bin/env bash
# Packs what a machine with a GPU needs for tests/gpu/first_run.sh, where nothing of this machine is installed and nothing can be
# fetched: the programs, stripped, Open MPI and the libraries of Debian, the scripts, a text to train on.
#
#   tests/gpu/bundle.sh OUT.tar.gz           # builds in build-cuda/ first
#   tests/gpu/bundle.sh OUT.tar.gz FOLDER    # takes the build in FOLDER
#
# That machine is x86-64, its glibc and libstdc++ as new as here or newer. The driver and CUDA's libraries (cudart, cuBLASLt, cuDNN,
# NCCL) are its own: `run` of the bundle looks for them in CUDA_LIB_DIRS (folders with colons between them), in the nvidia wheels of
# its python3, and in the toolkit's folders.
set -euo pipefail
most_bytes=45000000

case "${1:-}" in
  "" | -*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
archive=$(realpath -m "$1")
tree=${2:+$(realpath -m "$2")}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
programs=(jevons tests/kernels/cuda/kernels_cuda_test tests/kernels/cuda/cuda_bench tests/trainer/step/cuda_train_test
          tests/gpu/nccl_gpu_2_test)
if [[ -z "$tree" ]]; then
  tree=build-cuda
  cmake --preset cuda >/dev/null
  cmake --build --preset cuda --target jevons kernels_cuda_test cuda_bench cuda_train_test nccl_gpu_2_test
fi
for program in "${programs[@]}"; do
  [[ -x "$tree/$program" ]] && continue
  echo "bundle: $tree has no $program: build it with -DJEVONS_CUDA=ON, where NCCL's header is" >&2
  exit 1
done
if ! mpirun=$(command -v mpirun); then
  echo "bundle: no mpirun here to pack: ./launch/setup.sh" >&2
  exit 1
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$out"/{bin,lib,tests/gpu,configs/presets} "$out"/mpi/{bin,share}
for program in "${programs[@]}"; do strip --strip-unneeded -o "$out/bin/${program##*/}" "$tree/$program"; done
cp tests/gpu/{first_run.sh,train.sh,nccl_env.sh,torch_bench.py} "$out/tests/gpu/"
cp configs/presets/{quickstart_cpu,small_h100}.textproto "$out/configs/presets/"
cat README.md */README.md */*/README.md >"$out/corpus.txt"

# What is that machine's own: the C and C++ libraries, the driver, CUDA.
own='^(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libutil|libstdc\+\+|libgcc_s|libcuda|libcudart|libcublas|libcublasLt|libcudnn[a-z_]*|libnccl|libnvrtc[a-z-]*|libnvJitLink|libnvidia-[a-z]+)\.so'
copy_libraries() {
  local library
  for file in "$@"; do ldd "$file" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $3}'; done | sort -u |
    while read -r library; do
      [[ ${library##*/} =~ $own ]] || cp -Ln "$library" "$out/lib/"
    done
}
copy_libraries "$out"/bin/*

# Open MPI for the processes of one machine; its plug-ins for networks would bring tens of megabytes.
prefix=$(dirname "$(dirname "$(readlink -f "$mpirun")")")
plugins=lib/x86_64-linux-gnu
mkdir -p "$out/mpi/$plugins/openmpi/lib" "$out/mpi/$plugins/pmix2/lib"
cp -L "$prefix/bin/orterun" "$out/mpi/bin/mpirun"
cp -L "$prefix/bin/orted" "$out/mpi/bin/orted"
cp -rL "$prefix/$plugins/openmpi/lib/openmpi3" "$out/mpi/$plugins/openmpi/lib/"
cp -rL "$prefix/$plugins/pmix2/lib/pmix" "$out/mpi/$plugins/pmix2/lib/"
cp -rL "$prefix/share/openmpi" "$out/mpi/share/"
find "$prefix/share" -maxdepth 1 -name 'pmix*' -exec cp -rL {} "$out/mpi/share/" \;
find "$out/mpi" -regextype posix-extended -regex \
  '.*mca_(btl_(openib|usnic|ofi|uct)|mtl_.*|pml_ucx|osc_ucx|atomic_ucx|spml_ucx|scoll_.*|oshmem.*|common_(ofi|ucx|verbs|monitoring)|coll_(hcoll|monitoring)|osc_monitoring|pml_monitoring|io_ompio|fs_.*|fcoll_.*|fbtl_.*|sharedfp_.*).*' -delete
mapfile -t parts < <(find "$out/mpi" -name '*.so*')
copy_libraries "$out"/mpi/bin/* "${parts[@]}"

cat >"$out/run" <<'RUN'
#!/usr/bin/env bash
# Runs its arguments with the bundle's programs and libraries before the machine's own, and CUDA's where they are found.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
plugins=$here/mpi/lib/x86_64-linux-gnu
cuda=${CUDA_LIB_DIRS:-$(python3 -c 'import glob, site, sys
print(":".join(sorted({d for s in {*site.getsitepackages(), *sys.path} for d in glob.glob(s + "/nvidia/*/lib")})))' 2>/dev/null)}
for folder in /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/nvidia/lib64 /usr/local/lib/python3*/{site,dist}-packages/nvidia/*/lib; do
  [ -d "$folder" ] && cuda=$cuda:$folder
done
export PATH=$here/bin:$here/mpi/bin:$PATH
export LD_LIBRARY_PATH=$here/lib:$plugins/openmpi/lib:$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OPAL_PREFIX=$here/mpi PMIX_INSTALL_PREFIX=$here/mpi OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PMIX_MCA_mca_base_component_path=$plugins/pmix2/lib/pmix
export OMPI_MCA_plm=isolated OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_rmaps_base_oversubscribe=1
exec "$@"
RUN
chmod 755 "$out/run"

tar -C "$out" --owner=0 --group=0 -czf "$archive" .
bytes=$(stat -c %s "$archive")
if ((bytes > most_bytes)); then
  echo "bundle: $archive has $bytes bytes, more than $most_bytes" >&2
  exit 1
fi
echo "bundle: $archive, $((bytes / 1000000)) MB"
