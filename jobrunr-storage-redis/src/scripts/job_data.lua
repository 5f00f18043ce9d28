-- Saves metadata of a job; tells whether the job is there.
local id = argument()
if call('EXISTS', job_key(id)) == 0 then
  return 0
end
local data = {}
for index = 2, #ARGV do
  data[index - 1] = ARGV[index]
end
if #data > 0 then
  call('HSET', job_key(id), 'm', '1')
  in_pieces('HSET', base .. 'data:' .. id, data)
end
return 1
