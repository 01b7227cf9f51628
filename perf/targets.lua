-- wrk script: GETs of the targets in the file TARGETS, a line each, in random order.
local targets = {}

function init(args)
  for line in io.lines(os.getenv("TARGETS")) do
    targets[#targets + 1] = wrk.format("GET", line)
  end
  math.randomseed(tonumber(os.getenv("SEED") or "1"))
end

function request()
  return targets[math.random(#targets)]
end

function done(summary, latency, requests)
  print(string.format("errors: status %d, timeout %d, read %d, write %d", summary.errors.status,
    summary.errors.timeout, summary.errors.read, summary.errors.write))
  print(string.format("latency ms: p50 %.2f p99 %.2f p99.9 %.2f max %.2f", latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, latency.max / 1000))
end
