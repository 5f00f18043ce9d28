-- Saves metadata of a job; tells whether the job is there.
local id = argument()
if call('EXISTS', JOB .. id) == 0 then
  return 0
end
local data = #ARGV - 1
if data > 0 then
  call('HSET', JOB .. id, 'm', '1')
  pass_on('HSET', base .. 'data:' .. id, data)
end
return 1
