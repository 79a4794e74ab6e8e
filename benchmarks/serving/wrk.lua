-- Posts one body again and again: wrk -s wrk.lua URL -- BODY CONTENT_TYPE [count]
-- With count the answers are counted by status, which costs the client some time for each.
-- Ends with one line for benchmarks.serving.load: "measured", then names and numbers.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
  statuses = {}
  if args[3] == "count" then
    function response(status)
      statuses[status] = (statuses[status] or 0) + 1
    end
  end
end

function done(summary, latency)
  local failed = summary.errors
  local lost = failed.connect + failed.read + failed.write + failed.timeout
  io.write(string.format(
    "measured requests=%d microseconds=%d p50=%f p99=%f bad=%d lost=%d",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.status, lost))
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      io.write(string.format(" status_%d=%d", status, count))
    end
  end
  io.write("\n")
end
