// What goes between the host and a step's stream: the batch there, and back what the micro-batches have summed, all at once, so that
// the host waits once. On a CPU both are copies in memory.
#ifndef JEVONS_TRAINER_STEP_STEP_BUFFERS_H_
#define JEVONS_TRAINER_STEP_STEP_BUFFERS_H_

#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor/device.h"
#include "trainer/model/model.h"

namespace jevons {

// The samples of a rank where the stream works.
class BatchBuffer {
 public:
  explicit BatchBuffer(const Stream& stream) : stream_(stream) {}

  // tokens: [count, S+1]; document_start: [count, S] or empty. The last upload must have been read: the host has waited since.
  void Upload(std::span<const int32_t> tokens, std::span<const int32_t> document_start, int64_t sequence_length);
  // Sequences [begin, begin + count) of the last upload.
  MicroBatch At(int64_t begin, int64_t count) const;

 private:
  Stream stream_;
  int64_t sequence_length_ = 0;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Arena> arena_;
  Tensor tokens_, document_start_;
  std::vector<int64_t> documents_, longest_;  // [count], of each sequence
};

// A row for each micro-batch of a step, and what quantisation lost in all of them.
class StepTotals {
 public:
  StepTotals(const Stream& stream, int64_t micro_batches, int64_t loss_terms, int64_t moe_layers, int64_t experts);

  MicroBatchTotals Row(int64_t micro_batch) const;
  Fp8Stats* fp8() const { return static_cast<Fp8Stats*>(fp8_.data); }

  void Begin();  // a step: the rows are zero
  // Starts the way back; the figures below are there when the host has waited for the stream.
  void BeginRead();
  void Clear();                                                // counts in fp8() begin anew, after what has begun to be read
  std::span<const double> losses(int64_t micro_batch) const;   // [loss_terms]
  std::span<const int64_t> counts(int64_t micro_batch) const;  // [moe_layers * experts]
  const Fp8Stats& lost() const { return *reinterpret_cast<const Fp8Stats*>(Host(0)); }

 private:
  int64_t RowBegin(int64_t micro_batch) const;  // words of 8 bytes
  const int64_t* Host(int64_t word) const { return static_cast<const int64_t*>(host_.data()) + word; }
  Stream stream_;
  int64_t loss_terms_, moe_layers_, experts_, words_;
  Staging host_;
  Arena arena_;
  Tensor all_, fp8_, rows_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_STEP_STEP_BUFFERS_H_
