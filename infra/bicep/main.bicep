// facerelay on Azure, in one resource group. `infra/deploy.sh` deploys it; docs/deploy.md explains the parameters.

targetScope = 'resourceGroup'

@description('Short name of the system; part of every resource name.')
@minLength(3)
@maxLength(12)
param name string = 'facerelay'

@description('dev, prod, or another short name.')
@minLength(1)
@maxLength(8)
param environmentName string

param location string = resourceGroup().location

@description('Python of the app. requirements.txt has wheels for both.')
@allowed([
  '3.12'
  '3.13'
])
param pythonVersion string = '3.13'

@description('Memory of an instance. 2048 MB come with one core, 4096 MB with two.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMb int = 2048

@description('Most instances at a time: the ceiling of the bill, and of how fast a backlog goes away.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('Instances that are always warm, for HTTP and for candidates. They cost money while idle.')
param alwaysReadyHttp int = 0
param alwaysReadyBlob int = 0

@description('HTTP requests that one instance works on at a time.')
param httpConcurrency int = 4

@description('Days until edge crops and detections are deleted.')
@minValue(1)
param candidateRetentionDays int = 7
@minValue(1)
param detectionRetentionDays int = 30

@description('Cosmos DB by request (true) or with autoscale (false).')
param cosmosServerless bool = true
param detectionsMaxThroughput int = 4000
param otherMaxThroughput int = 1000

@description('Cosmos DB searches the models of more than vectorSearchAbove people. Its container, once made, keeps its policies.')
param vectorSearch bool = false

@description('Of each embedder that is used: its dimensions, and one for the bias. FaceNet and SFace.')
param vectorLengths array = [
  513
  129
]

@minValue(1)
@maxValue(10000000)
param vectorSearchAbove int = 100000
param vectorsMaxThroughput int = 4000

@description('App, blobs and documents in three zones of the region, where the region has them.')
param zoneRedundant bool = false

@description('Data only over private endpoints; the app in a network of its own.')
param privateNetwork bool = false
param networkPrefix string = '10.77.0.0/24'
param appSubnetPrefix string = '10.77.0.0/26'
param endpointSubnetPrefix string = '10.77.0.64/26'

@description('IPv4 addresses or ranges of sites and operators. Nobody else is answered, unless openToInternet.')
param allowedAddresses array = []
param openToInternet bool = false

@description('Object ids in Entra of gateways with their own identity, and of people or groups that use the command line.')
param gatewayPrincipalIds array = []
param operatorPrincipalIds array = []

@description('Where alerts go. Empty: they are only in the portal.')
param alertEmails array = []

@description('Budget of a month, in the currency of the subscription. 0: none.')
param monthlyBudget int = 0
param budgetStart string = utcNow('yyyy-MM-01')

param logRetentionDays int = 30
param logDailyCapGb int = 1

@description('More FACERELAY_ settings for the app, by name.')
param extraSettings object = {}

@secure()
@description('The same for secrets: FACERELAY_WEBHOOK_URL, FACERELAY_WEBHOOK_SECRET, FACERELAY_SMTP_PASSWORD.')
param secretSettings object = {}

var suffix = take(uniqueString(resourceGroup().id, name, environmentName), 6)
var prefix = '${name}-${environmentName}'
var databaseName = 'facerelay'
var tags = {
  system: name
  environment: environmentName
  'azd-env-name': environmentName
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: '${prefix}-id'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    workspaceName: '${prefix}-logs'
    insightsName: '${prefix}-insights'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyCapGb: logDailyCapGb
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: take('${toLower(replace(name, '-', ''))}${toLower(replace(environmentName, '-', ''))}${suffix}', 24)
    location: location
    tags: tags
    sku: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
    privateNetwork: privateNetwork
    allowedAddresses: allowedAddresses
    candidateRetentionDays: candidateRetentionDays
    workspaceId: monitoring.outputs.workspaceId
  }
}

module cosmos 'modules/cosmos.bicep' = {
  name: 'cosmos'
  params: {
    name: '${prefix}-${suffix}'
    location: location
    tags: tags
    databaseName: databaseName
    serverless: cosmosServerless
    detectionsMaxThroughput: detectionsMaxThroughput
    otherMaxThroughput: otherMaxThroughput
    zoneRedundant: zoneRedundant
    privateNetwork: privateNetwork
    allowedAddresses: allowedAddresses
    detectionRetentionDays: detectionRetentionDays
    vectorSearch: vectorSearch
    vectorLengths: vectorLengths
    vectorsMaxThroughput: vectorsMaxThroughput
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'network'
  params: {
    name: '${prefix}-net'
    location: location
    tags: tags
    networkPrefix: networkPrefix
    appSubnetPrefix: appSubnetPrefix
    endpointSubnetPrefix: endpointSubnetPrefix
    storageId: storage.outputs.id
    storageName: storage.outputs.name
    cosmosId: cosmos.outputs.id
    cosmosName: cosmos.outputs.name
  }
}

module eventgrid 'modules/eventgrid.bicep' = {
  name: 'eventgrid'
  params: {
    name: '${prefix}-candidates'
    location: location
    tags: tags
    storageName: storage.outputs.name
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  params: {
    storageName: storage.outputs.name
    cosmosName: cosmos.outputs.name
    cosmosDatabase: cosmos.outputs.databaseName
    insightsName: monitoring.outputs.insightsName
    appPrincipalId: identity.outputs.principalId
    topicPrincipalId: eventgrid.outputs.principalId
    gatewayPrincipalIds: gatewayPrincipalIds
    operatorPrincipalIds: operatorPrincipalIds
  }
}

module functions 'modules/functions.bicep' = {
  name: 'functions'
  // The host reads its storage as soon as it starts.
  dependsOn: [
    roles
  ]
  params: {
    planName: '${prefix}-plan'
    appName: '${prefix}-${suffix}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    tableEndpoint: storage.outputs.tableEndpoint
    cosmosEndpoint: cosmos.outputs.endpoint
    cosmosDatabase: cosmos.outputs.databaseName
    insightsConnectionString: monitoring.outputs.connectionString
    pythonVersion: pythonVersion
    instanceMemoryMb: instanceMemoryMb
    maximumInstances: maximumInstances
    zoneRedundant: zoneRedundant
    alwaysReadyHttp: alwaysReadyHttp
    alwaysReadyBlob: alwaysReadyBlob
    httpConcurrency: httpConcurrency
    subnetId: privateNetwork ? network.outputs.appSubnetId : ''
    allowedAddresses: allowedAddresses
    openToInternet: openToInternet
    candidateRetentionDays: candidateRetentionDays
    detectionRetentionDays: detectionRetentionDays
    vectorSearchAbove: vectorSearch ? vectorSearchAbove : 0
    extraSettings: extraSettings
    secretSettings: secretSettings
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    prefix: prefix
    location: location
    tags: tags
    emails: alertEmails
    workspaceId: monitoring.outputs.workspaceId
    cosmosId: cosmos.outputs.id
    topicId: eventgrid.outputs.id
    monthlyBudget: monthlyBudget
    budgetStart: budgetStart
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  params: {
    displayName: '${prefix} operations'
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    cosmosId: cosmos.outputs.id
  }
}

output functionApp string = functions.outputs.name
output functionHost string = functions.outputs.hostName
output storageAccount string = storage.outputs.name
output blobEndpoint string = storage.outputs.blobEndpoint
output cosmosEndpoint string = cosmos.outputs.endpoint
output eventTopic string = eventgrid.outputs.name
