#include "trainer/checkpoint/memory_writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/staging.h"
#include "trainer/files/file_system.h"

namespace jevons {

std::vector<int> BuddiesOf(std::span<const int> hosts) {
  std::vector<int> order;                 // hosts, by their first rank
  std::vector<std::vector<int>> ranks;    // of each
  std::vector<size_t> host_of, local_of;  // of each rank, in these
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    const size_t host = static_cast<size_t>(std::find(order.begin(), order.end(), hosts[rank]) - order.begin());
    if (host == order.size()) {
      order.push_back(hosts[rank]);
      ranks.emplace_back();
    }
    host_of.push_back(host);
    local_of.push_back(ranks[host].size());
    ranks[host].push_back(static_cast<int>(rank));
  }
  if (order.size() < 2) return {};
  std::vector<int> buddies;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    const std::vector<int>& next = ranks[(host_of[rank] + 1) % order.size()];
    buddies.push_back(next[local_of[rank] % next.size()]);
  }
  return buddies;
}

class MemoryWriter::Slot {
 public:
  explicit Slot(std::string path) : path_(std::move(path)) {}
  ~Slot() {
    if (data_ != nullptr) munmap(data_, size_);
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  // No longer whole; room for `bytes` of the state after `step` steps.
  absl::Status Open(int64_t step, int64_t bytes) {
    Forget();
    step_ = step;
    if (static_cast<size_t>(bytes) == size_) return absl::OkStatus();
    if (data_ != nullptr) munmap(std::exchange(data_, nullptr), std::exchange(size_, 0));
    const std::string path = path_ + ".bin";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return DiskError(path, "make it", errno);
    // Memory that is not there must be missed now, not as a signal at the first write.
    const int error = posix_fallocate(fd, 0, bytes);
    void* const data =
        error == 0 ? mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    const int map_error = errno;
    close(fd);
    if (data == MAP_FAILED)
      return FailureError(absl::StrFormat(
          "%s: no memory for the %d bytes of a checkpoint: %s; make /dev/shm larger (mount -o remount,size=...), or set "
          "checkpoint.memory_interval = 0",
          path, bytes, std::strerror(error != 0 ? error : map_error)));
    data_ = static_cast<std::byte*>(data);
    size_ = static_cast<size_t>(bytes);
    return absl::OkStatus();
  }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  int64_t step() const { return step_; }
  void Forget() const { unlink((path_ + ".pb").c_str()); }

  // It is whole.
  absl::Status Close(absl::string_view index) const {
    FileSystem& files = PosixFileSystem();
    const std::string path = path_ + ".pb";
    JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path + ".new", OpenMode::kWrite));
    JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(index)), path));
    JEVONS_RETURN_IF_ERROR(file->Close());
    return files.Rename(path + ".new", path);
  }

 private:
  const std::string path_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t step_ = 0;
};

struct MemoryWriter::Slots {
  Slots(const std::string& folder, int rank) : slots{Slot(Path(folder, rank, 0)), Slot(Path(folder, rank, 1))} {}
  static std::string Path(const std::string& folder, int rank, int slot) {
    return absl::StrFormat("%s/rank-%05d.%d", folder, rank, slot);
  }
  std::array<Slot, 2> slots;
};

MemoryWriter::MemoryWriter(std::string folder, Communicator& world, int64_t epoch)
    : folder_(std::move(folder)),
      world_(world.Split(0, "memory")),
      epoch_(epoch),
      own_(std::make_unique<Slots>(folder_, world.rank())),
      index_(std::make_unique<CheckpointManifest>()) {
  mkdir(folder_.c_str(), 0700);  // where it cannot be made, the first file says so
  std::vector<int> hosts;
  for (int rank = 0; rank < world.size(); ++rank) hosts.push_back(world.NodeOf(rank));
  buddies_ = BuddiesOf(hosts);
  for (size_t rank = 0; rank < buddies_.size(); ++rank) {
    if (buddies_[rank] != world.rank()) continue;
    wards_.push_back(static_cast<int>(rank));
    of_wards_.push_back(std::make_unique<Slots>(folder_, static_cast<int>(rank)));
  }
}

MemoryWriter::~MemoryWriter() {
  if (thread_.joinable()) thread_.join();
}

absl::Status MemoryWriter::Save(const CheckpointInfo& info, const std::vector<TensorSlice>& slices, const Stream& stream) {
  JEVONS_RETURN_IF_ERROR(Finish());
  const int64_t bytes = BytesOf(slices);
  std::vector<int64_t> all_bytes(static_cast<size_t>(world_->size()));
  world_->AllGather(std::as_bytes(std::span(&bytes, 1)), std::as_writable_bytes(std::span(all_bytes)));
  Slot& slot = own_->slots[turn_];
  absl::Status open = slot.Open(info.step, bytes);
  for (size_t w = 0; w < wards_.size() && open.ok(); ++w)
    open = of_wards_[w]->slots[turn_].Open(info.step, all_bytes[static_cast<size_t>(wards_[w])]);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(*world_, open));
  *index_ = StageSlices(slices, stream, RankFileName(world_->rank()), slot.bytes().data());
  SetInfo(info, index_.get());
  index_->set_epoch(epoch_);
  index_->set_parts(world_->size());
  if (has_buddies()) {
    if (bytes > 0) requests_.push_back(world_->BeginSend({}, slot.bytes(), buddies_[static_cast<size_t>(world_->rank())]));
    for (size_t w = 0; w < wards_.size(); ++w)
      if (const std::span<std::byte> to = of_wards_[w]->slots[turn_].bytes(); !to.empty())
        requests_.push_back(world_->BeginReceive({}, to, wards_[w]));
  }
  done_ = false;
  thread_ = std::thread([this, &slot] { Hash(slot); });
  in_flight_ = true;
  return absl::OkStatus();
}

void MemoryWriter::Hash(Slot& slot) {
  HashChunks(slot.bytes(), index_.get());
  sealed_ = SealManifest(*index_);
  hashed_ = slot.Close(sealed_);
  done_.store(true, std::memory_order_release);
}

absl::Status MemoryWriter::Poll() {
  if (!in_flight_ || !has_buddies()) return absl::OkStatus();
  int64_t ranks_done = done_.load(std::memory_order_acquire) ? 1 : 0;
  for (const CommRequest request : requests_)
    if (!world_->Done({}, request)) ranks_done = 0;
  world_->AllReduceSum({&ranks_done, 1});
  return ranks_done == world_->size() ? Finish() : absl::OkStatus();
}

absl::Status MemoryWriter::Finish() {
  if (!std::exchange(in_flight_, false)) return absl::OkStatus();
  thread_.join();
  absl::Status status = hashed_;
  for (const CommRequest request : std::exchange(requests_, {})) world_->Wait(request);
  if (has_buddies()) status.Update(SendIndexes());
  turn_ = 1 - turn_;
  return AgreeOnStatus(*world_, status);
}

void MemoryWriter::Forget(int64_t step) {
  const auto forget = [step](const Slots& of) {
    for (const Slot& slot : of.slots)
      if (slot.step() >= step) slot.Forget();
  };
  forget(*own_);
  for (const auto& of : of_wards_) forget(*of);
  world_->Barrier();  // who goes on before may end the others
}

// A buddy's copy is whole once it has the hashes that its owner has made.
absl::Status MemoryWriter::SendIndexes() {
  const auto bytes = static_cast<int64_t>(sealed_.size());
  std::vector<int64_t> all_bytes(static_cast<size_t>(world_->size()));
  world_->AllGather(std::as_bytes(std::span(&bytes, 1)), std::as_writable_bytes(std::span(all_bytes)));
  std::vector<CommRequest> requests = {
      world_->BeginSend({}, std::as_bytes(std::span(sealed_)), buddies_[static_cast<size_t>(world_->rank())])};
  std::vector<std::string> indexes;
  for (const int ward : wards_) indexes.emplace_back(static_cast<size_t>(all_bytes[static_cast<size_t>(ward)]), '\0');
  for (size_t w = 0; w < wards_.size(); ++w)
    requests.push_back(world_->BeginReceive({}, std::as_writable_bytes(std::span(indexes[w])), wards_[w]));
  for (const CommRequest request : requests) world_->Wait(request);
  absl::Status status;
  for (size_t w = 0; w < wards_.size(); ++w) status.Update(of_wards_[w]->slots[turn_].Close(indexes[w]));
  return status;
}

}  // namespace jevons
