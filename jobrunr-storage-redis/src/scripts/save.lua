-- Adds entries to the histories of jobs, each if it is still as it was loaded; returns the numbers of those that are not.
local conflicts = {}
for index = 1, number() do
  local id, version, next_version, created = argument(), argument(), argument(), argument()
  local state_and_update, schedule_and_server, enqueued, awaited =
    argument(), argument(), argument(), argument()
  local failure, successes, entries = number(), number(), number()
  local key = job_key(id)
  local head = call('HGET', key, 'h')
  if
    head
    and sub(head, VERSION_AT) == version
    and sub(head, CREATED_AT, CREATED_TO) == created
  then
    if entries == 0 then
      call('HSET', key, 'h', sub(head, 1, VERSION_AT - 1) .. next_version)
    else
      local stored = tonumber(sub(head, ENTRIES_AT, ENTRIES_TO))
      local failed = sub(head, FAILURE_AT, FAILURE_TO)
      if failure >= 0 then
        failed = format('%08d', stored + failure)
      end
      local changed = sub(head, LANE_AT, LANE_TO)
        .. state_and_update
        .. created
        .. schedule_and_server
        .. sub(head, PRIORITY_AT, PRIORITY_TO)
        .. enqueued
        .. awaited
        .. format('%08d', stored + entries)
        .. failed
        .. sub(head, RECURRING_AT, TOKEN_TO)
        .. next_version
      local fields = { 'h', changed }
      for entry = 0, entries - 1 do
        fields[#fields + 1] = format('%d', stored + entry)
        fields[#fields + 1] = argument()
      end
      entries = 0
      in_pieces('HSET', key, fields)
      move(id, head, changed)
      count('succeeded', successes)
    end
  else
    conflicts[#conflicts + 1] = index
  end
  next_argument = next_argument + entries
end
write_indexes()
return conflicts
