#include "tests/support/memory_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "kernels/base/philox.h"

namespace jevons {
namespace {

std::vector<std::string> Components(const std::string& path) {
  return absl::StrSplit(path, '/', [](absl::string_view name) { return !name.empty() && name != "."; });
}

std::string BaseName(const std::string& path) {
  const std::vector<std::string> components = Components(path);
  return components.empty() ? "" : components.back();
}

}  // namespace

struct MemoryDisk::Node {
  struct Write {
    bool truncates = false;
    size_t offset = 0;
    std::string bytes;
  };
  struct NameChange {
    std::string removed, added;  // "" for none
    NodePointer node;            // of the added name
  };

  bool is_directory = false;
  std::string data;                          // a file's, as programs see it
  std::string durable;                       // a file's, as of the last fsync
  std::vector<Write> writes;                 // since
  std::map<std::string, NodePointer> names;  // a directory's, as programs see them
  std::map<std::string, NodePointer> durable_names;
  std::vector<NameChange> changes;  // since

  static void Apply(const NameChange& change, std::map<std::string, NodePointer>& names) {
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.node;
  }

  void Sync() {
    if (is_directory) {
      for (const NameChange& change : changes) Apply(change, durable_names);
      changes.clear();
      return;
    }
    for (const Write& write : writes) {
      if (write.truncates) durable.clear();
      Put(write.offset, write.bytes, durable);
    }
    writes.clear();
  }

  static void Put(size_t offset, const std::string& bytes, std::string& data) {
    if (data.size() < offset + bytes.size()) data.resize(offset + bytes.size(), '\0');
    data.replace(offset, bytes.size(), bytes);
  }

  // What a power loss leaves of this file.
  std::string Survivor(const Choose& choose) const {
    std::string survivor = durable;
    for (const Write& write : writes) {
      if (write.truncates && choose(2) == 1) survivor.clear();
      for (size_t begin = 0; begin < write.bytes.size();) {
        const size_t at = write.offset + begin;
        const size_t size = std::min(write.bytes.size() - begin, kBlockBytes - at % kBlockBytes);
        const int kept = choose(3);
        if (kept > 0) Put(at, kept == 2 ? write.bytes.substr(begin, size) : std::string(size, '\0'), survivor);
        begin += size;
      }
    }
    return survivor;
  }

  NodePointer AfterPowerLoss(const Choose& choose) const {
    auto copy = std::make_shared<Node>();
    copy->is_directory = is_directory;
    copy->data = copy->durable = Survivor(choose);
    std::map<std::string, NodePointer> survivors = durable_names;
    for (const NameChange& change : changes) {
      if (choose(2) == 1) Apply(change, survivors);
    }
    for (const auto& [name, node] : survivors) copy->names[name] = node->AfterPowerLoss(choose);
    copy->durable_names = copy->names;
    return copy;
  }

  void Dump(const std::string& path, std::string* text) const {
    absl::StrAppend(text, path, is_directory ? "/\n" : "\n", data, "\n");
    for (const auto& [name, node] : names) node->Dump(absl::StrCat(path, "/", name), text);
  }
};

class MemoryDisk::OpenFile : public File {
 public:
  OpenFile(MemoryDisk& disk, NodePointer node, std::string path) : disk_(disk), node_(std::move(node)), path_(std::move(path)) {}

  absl::StatusOr<int64_t> Write(std::span<const std::byte> bytes) override {
    const std::lock_guard lock(disk_.mutex_);
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const size_t offset = node_->data.size();
    node_->data += text;
    node_->writes.push_back({.truncates = false, .offset = offset, .bytes = std::move(text)});
    disk_.Observe();
    return static_cast<int64_t>(bytes.size());
  }

  absl::StatusOr<int64_t> PRead(int64_t offset, std::span<std::byte> bytes) override {
    const std::lock_guard lock(disk_.mutex_);
    const size_t begin = std::min(static_cast<size_t>(offset), node_->data.size());
    const size_t size = std::min(bytes.size(), node_->data.size() - begin);
    std::memcpy(bytes.data(), node_->data.data() + begin, size);
    return static_cast<int64_t>(size);
  }

  absl::Status Fsync() override {
    const std::lock_guard lock(disk_.mutex_);
    node_->Sync();
    disk_.Observe();
    return absl::OkStatus();
  }

  absl::Status Close() override { return absl::OkStatus(); }

 private:
  MemoryDisk& disk_;
  NodePointer node_;
  std::string path_;
};

MemoryDisk::MemoryDisk() : root_(std::make_shared<Node>()) { root_->is_directory = true; }

MemoryDisk::NodePointer MemoryDisk::Find(const std::string& path) const {
  NodePointer node = root_;
  for (const std::string& name : Components(path)) {
    const auto found = node->names.find(name);
    if (found == node->names.end()) return nullptr;
    node = found->second;
  }
  return node;
}

absl::StatusOr<MemoryDisk::NodePointer> MemoryDisk::FindDirectory(const std::string& path, absl::string_view action) const {
  const NodePointer node = Find(path);
  if (node == nullptr) return DiskError(path, action, ENOENT);
  if (!node->is_directory) return DiskError(path, action, ENOTDIR);
  return node;
}

absl::Status MemoryDisk::ChangeNames(const std::string& path, const std::string& removed, const std::string& added,
                                     NodePointer node) {
  JEVONS_ASSIGN_OR_RETURN(const NodePointer parent, FindDirectory(ParentPath(path), "change"));
  parent->changes.push_back({removed, added, std::move(node)});
  Node::Apply(parent->changes.back(), parent->names);
  Observe();
  return absl::OkStatus();
}

void MemoryDisk::Observe() const {
  if (observer_) observer_(*this);
}

absl::StatusOr<std::unique_ptr<File>> MemoryDisk::Open(const std::string& path, OpenMode mode) {
  const std::lock_guard lock(mutex_);
  NodePointer node = Find(path);
  if (node != nullptr && node->is_directory) return DiskError(path, "open", EISDIR);
  if (node == nullptr && mode == OpenMode::kRead) return DiskError(path, "open", ENOENT);
  if (node == nullptr) {
    node = std::make_shared<Node>();
    JEVONS_RETURN_IF_ERROR(ChangeNames(path, "", BaseName(path), node));
  } else if (mode == OpenMode::kWrite) {
    node->data.clear();
    node->writes.push_back({.truncates = true, .offset = 0, .bytes = ""});
    Observe();
  }
  return std::make_unique<OpenFile>(*this, node, path);
}

absl::Status MemoryDisk::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  JEVONS_CHECK(ParentPath(from) == ParentPath(to), "renames stay in their directory");
  const NodePointer node = Find(from), target = Find(to);
  if (node == nullptr) return DiskError(to, "rename to it", ENOENT);
  if (target != nullptr && target->is_directory && !target->names.empty()) return DiskError(to, "rename to it", ENOTEMPTY);
  return ChangeNames(from, BaseName(from), BaseName(to), node);
}

absl::Status MemoryDisk::MakeDirectory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (Find(path) != nullptr) return DiskError(path, "make the folder", EEXIST);
  const auto node = std::make_shared<Node>();
  node->is_directory = true;
  return ChangeNames(path, "", BaseName(path), node);
}

absl::Status MemoryDisk::SyncDirectory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  JEVONS_ASSIGN_OR_RETURN(const NodePointer node, FindDirectory(path, "fsync the folder"));
  node->Sync();
  Observe();
  return absl::OkStatus();
}

absl::Status MemoryDisk::Remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePointer node = Find(path);
  if (node == nullptr || node->is_directory) return DiskError(path, "remove", node == nullptr ? ENOENT : EISDIR);
  return ChangeNames(path, BaseName(path), "", nullptr);
}

absl::Status MemoryDisk::RemoveDirectory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  JEVONS_ASSIGN_OR_RETURN(const NodePointer node, FindDirectory(path, "remove the folder"));
  if (!node->names.empty()) return DiskError(path, "remove the folder", ENOTEMPTY);
  return ChangeNames(path, BaseName(path), "", nullptr);
}

absl::StatusOr<std::vector<std::string>> MemoryDisk::List(const std::string& path) {
  const std::lock_guard lock(mutex_);
  JEVONS_ASSIGN_OR_RETURN(const NodePointer node, FindDirectory(path, "list the folder"));
  std::vector<std::string> names;
  for (const auto& [name, entry] : node->names) names.push_back(name);
  return names;
}

absl::StatusOr<std::optional<FileInfo>> MemoryDisk::Stat(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePointer node = Find(path);
  if (node == nullptr) return std::optional<FileInfo>();
  return std::optional<FileInfo>({.is_directory = node->is_directory, .bytes = static_cast<int64_t>(node->data.size())});
}

std::string& MemoryDisk::Contents(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePointer node = Find(path);
  JEVONS_CHECK(node != nullptr && !node->is_directory, "%s is no file", path.c_str());
  return node->data;
}

void MemoryDisk::ForgetUnsynced(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (const NodePointer node = Find(path)) node->writes.clear();
}

std::unique_ptr<MemoryDisk> MemoryDisk::AfterPowerLoss(const Choose& choose) const {
  const std::lock_guard lock(mutex_);
  auto disk = std::make_unique<MemoryDisk>();
  disk->root_ = root_->AfterPowerLoss(choose);
  return disk;
}

int MemoryDisk::ForEachPowerLoss(int limit, uint64_t seed, const std::function<void(MemoryDisk&)>& visit) const {
  // All states: each choice is a digit; count up. The last digit that can still rise does, those after it
  // begin anew.
  std::vector<std::pair<int, int>> digits;  // (digit, count)
  for (int visited = 0; visited < limit; ++visited) {
    size_t at = 0;
    visit(*AfterPowerLoss([&](int count) {
      if (at == digits.size()) digits.push_back({0, count});
      return digits[at++].first;
    }));
    while (!digits.empty() && digits.back().first + 1 == digits.back().second) digits.pop_back();
    if (digits.empty()) return visited + 1;
    ++digits.back().first;
  }
  // Too many: what was counted above differs in the last choices only, so spread over all choices.
  visit(*AfterPowerLoss([](int count) { return count - 1; }));
  uint64_t draw = 0;
  for (int visited = 1; visited < limit; ++visited) {
    // From nearly nothing kept to nearly all: where all choices are even, the states with few exceptions
    // never come.
    const double kept = RandomUniform(seed, 1, draw++);
    visit(*AfterPowerLoss([&](int count) {
      if (RandomUniform(seed, 2, draw++) < kept) return count - 1;
      return static_cast<int>(RandomBits(seed, 3, draw++) % static_cast<uint64_t>(count));
    }));
  }
  return 2 * limit;
}

std::string MemoryDisk::Dump() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  root_->Dump("", &text);
  return text;
}

}  // namespace jevons
