// Reads samples ahead of the training loop, on a thread of its own.
//
//   Loader loader(std::move(stream));
//   loader.Request(0, 8);                                  // samples 0..7, this rank's share of step 0
//   for (step ...) {
//     loader.Request(first_sample_of(step + 1), 8);        // read while step is computed
//     JEVONS_ASSIGN_OR_RETURN(const SampleBatch* batch, loader.Next());
//
// Seeking is to request another index: there is no other position.
#ifndef JEVONS_DATA_LOADER_H_
#define JEVONS_DATA_LOADER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/sampler.h"

namespace jevons {

// Samples first .. first + count - 1, in order; seq_len is theirs.
struct SampleBatch {
  int64_t first = 0;
  int64_t count = 0;
  std::vector<int32_t> tokens;          // [count, seq_len + 1]
  std::vector<int32_t> document_start;  // [count, seq_len] with document_mask, else empty
};

class Loader {
 public:
  explicit Loader(SampleStream stream);
  ~Loader();  // stops in mid-batch if need be, within one sample's reading
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  SamplerState StateAt(int64_t next_sample) const { return stream_.StateAt(next_sample); }  // while the thread reads, too

  // Asks for a batch, whose samples have one length; never waits. Batches are read in the order of the requests, kBuffers - 1 of them ahead
  // of the one in use. A rank whose share is empty asks for count 0. REQUIRES: count >= 0.
  void Request(int64_t first, int64_t count);

  // The batch of the oldest request not yet answered; waits for it. It is valid until the next call of Next
  // or Cancel, when its memory is used again. An error of reading (see SampleStream::Read) is returned from
  // its batch on, for good; FailureError if nothing was requested.
  absl::StatusOr<const SampleBatch*> Next();

  // Forgets the requests that Next has not answered, as when training goes back to a checkpoint.
  void Cancel();

 private:
  static constexpr size_t kBuffers = 3;  // one in use, one ready, one being read

  struct Pending {
    int64_t first;
    int64_t count;
  };

  void Run();
  absl::Status Fill(const Pending& request, uint64_t generation, SampleBatch& batch);

  SampleStream stream_;  // only the thread reads from it
  std::mutex mutex_;
  std::condition_variable work_;   // for the thread: a request and a free buffer, or stop
  std::condition_variable ready_;  // for Next: a batch or an error
  bool stop_ = false;
  absl::Status error_;                                // of the thread, which has then ended
  uint64_t generation_ = 0;                           // counts Cancels: what was begun before one is dropped
  int64_t unanswered_ = 0;                            // requests that Next still owes
  std::deque<Pending> requests_;                      // not begun
  std::deque<std::unique_ptr<SampleBatch>> batches_;  // finished, in order
  std::vector<std::unique_ptr<SampleBatch>> free_;
  std::unique_ptr<SampleBatch> current_;  // what Next returned last
  std::thread thread_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_LOADER_H_
