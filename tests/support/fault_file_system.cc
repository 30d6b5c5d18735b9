#include "tests/support/fault_file_system.h"

#include <algorithm>
#include <utility>

namespace jevons {

bool FaultFileSystem::Fails() {
  const int64_t operation = operations_++;
  const bool fails = operation >= plan_.first_failure && operation - plan_.first_failure < plan_.failures;
  if (fails) ++failed_;
  return fails;
}

template <typename Result>
Result FaultFileSystem::Do(const std::string& path, const std::function<Result()>& operation) {
  if (!Fails()) return operation();
  if (plan_.happens_anyway) (void)operation();
  return DiskError(path, "do as told", plan_.error_number);
}

absl::Status FaultFileSystem::Sync(const std::string& path, const std::function<absl::Status()>& sync) {
  if (Fails()) {
    plan_.on_failed_sync(path);
    return DiskError(path, "fsync", plan_.error_number);
  }
  switch (plan_.sync_policy(path)) {
    case SyncPolicy::kHonest: return sync();
    case SyncPolicy::kSkip: return absl::OkStatus();
    case SyncPolicy::kLateAfterRename: {
      const std::lock_guard lock(mutex_);
      late_syncs_.push_back(sync);
    }
  }
  return absl::OkStatus();
}

class FaultFileSystem::FaultFile : public File {
 public:
  FaultFile(FaultFileSystem& owner, std::shared_ptr<File> inner, std::string path)
      : owner_(owner), inner_(std::move(inner)), path_(std::move(path)) {}

  absl::StatusOr<int64_t> Write(std::span<const std::byte> bytes) override {
    return owner_.Do<absl::StatusOr<int64_t>>(path_, [&] { return inner_->Write(Part(bytes)); });
  }
  absl::StatusOr<int64_t> PRead(int64_t offset, std::span<std::byte> bytes) override {
    return owner_.Do<absl::StatusOr<int64_t>>(path_, [&] { return inner_->PRead(offset, Part(bytes)); });
  }
  absl::Status Fsync() override {
    return owner_.Sync(path_, [inner = inner_] { return inner->Fsync(); });
  }
  absl::Status Close() override {
    return owner_.Do<absl::Status>(path_, [&] { return inner_->Close(); });
  }

 private:
  template <typename Bytes>
  Bytes Part(Bytes bytes) const {
    return bytes.first(std::min(bytes.size(), owner_.plan_.largest_transfer));
  }

  FaultFileSystem& owner_;
  std::shared_ptr<File> inner_;  // a late sync may outlive this
  std::string path_;
};

absl::StatusOr<std::unique_ptr<File>> FaultFileSystem::Open(const std::string& path, OpenMode mode) {
  using Result = absl::StatusOr<std::unique_ptr<File>>;
  JEVONS_ASSIGN_OR_RETURN(std::unique_ptr<File> file, Do<Result>(path, [&] { return inner_.Open(path, mode); }));
  return std::make_unique<FaultFile>(*this, std::move(file), path);
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  JEVONS_RETURN_IF_ERROR(Do<absl::Status>(to, [&] { return inner_.Rename(from, to); }));
  const std::lock_guard lock(mutex_);
  for (; !late_syncs_.empty(); late_syncs_.pop_front()) JEVONS_RETURN_IF_ERROR(late_syncs_.front()());
  return absl::OkStatus();
}

absl::Status FaultFileSystem::MakeDirectory(const std::string& path) {
  return Do<absl::Status>(path, [&] { return inner_.MakeDirectory(path); });
}

absl::Status FaultFileSystem::SyncDirectory(const std::string& path) {
  return Sync(path, [this, path] { return inner_.SyncDirectory(path); });
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  return Do<absl::Status>(path, [&] { return inner_.Remove(path); });
}

absl::Status FaultFileSystem::RemoveDirectory(const std::string& path) {
  return Do<absl::Status>(path, [&] { return inner_.RemoveDirectory(path); });
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::List(const std::string& path) {
  return Do<absl::StatusOr<std::vector<std::string>>>(path, [&] { return inner_.List(path); });
}

absl::StatusOr<std::optional<FileInfo>> FaultFileSystem::Stat(const std::string& path) {
  return Do<absl::StatusOr<std::optional<FileInfo>>>(path, [&] { return inner_.Stat(path); });
}

}  // namespace jevons
