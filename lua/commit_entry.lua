-- Counts what came of one record of a stream, exactly once however often it was compared: only who
-- takes it out of the group's pending records counts it. count_finding.lua is the rest of it.
--
-- KEYS[1] the stream of records
-- KEYS[2] to KEYS[7] as count_finding.lua says
-- ARGV[1] the group
-- ARGV[2] the record's entry
-- ARGV    as count_finding.lua says
-- Returns 1 where it was counted, 0 where somebody else did
-- Called by store::Comparisons::commit

local stream = KEYS[1]
local group, entry = ARGV[1], ARGV[2]
local at = 2

if redis.call('XACK', stream, group, entry) == 0 then
  return 0
end

